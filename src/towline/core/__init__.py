"""Pure facts and rules: no I/O, no clock, no asyncio. Everything else imports from here."""
