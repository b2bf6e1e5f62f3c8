"""SSH by asyncssh: the adapter behind the Dialer and Remote ports."""
