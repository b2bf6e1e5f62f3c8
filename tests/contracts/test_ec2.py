"""Driver `ec2` keeps the clouds' contract, against moto's EC2 made stricter."""

import asyncio

import pytest
from clouds import ec2 as fake

from tests.contracts.cloud_suite import CloudSuite
from tests.contracts.provider_suite import fresh_tag
from towline import errors


class TestEc2(CloudSuite):
    cloud_class = fake.Ec2
    provider_name = "ec2"
    keys = {"access_key_id": fake.KEY_ID, "secret_access_key": fake.SECRET}  # noqa: RUF012
    settings = {"region": fake.REGION}  # noqa: RUF012
    expect = {  # noqa: RUF012
        "host_key_grade": "A", "user_data": True, "tags": True, "idempotency_key": True,
        "end_self_argv": ("sudo", "-n", "shutdown", "-h", "now"),
    }  # fmt: skip
    get_call = "list_instances"

    def break_machine(self, cloud, machine):
        machine.status = "stopped"
