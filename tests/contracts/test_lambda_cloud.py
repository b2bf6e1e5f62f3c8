"""Driver `lambda` keeps the clouds' contract, against a stand-in built from the vendor's OpenAPI."""

import pytest
from clouds import lambda_cloud as fake

from tests.contracts.cloud_suite import CloudSuite
from towline import errors


class TestLambdaCloud(CloudSuite):
    cloud_class = fake.LambdaCloud
    provider_name = "lambda"
    keys = {"api_key": fake.KEY}  # noqa: RUF012
    expect = {"host_key_grade": "A", "user_data": True, "tags": True}  # noqa: RUF012

    def break_machine(self, cloud, machine):
        machine.status = "unhealthy"

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (
                lambda cloud: cloud.sold_out.add(("gpu_1x_h100_pcie", "us-west-1")),
                errors.NoCapacity,
            ),
            (lambda cloud: setattr(cloud, "quota", 0), errors.QuotaExceeded),
        ],
    )
    def test_definite_refusals(self, cloud, subject, spoil, error):
        self.check_refusal(cloud, subject, spoil, error)
