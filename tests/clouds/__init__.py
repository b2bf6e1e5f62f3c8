"""Stand-ins for the providers' APIs, and how towline is told to use them."""

import importlib
import json

#: provider -> (module and class of its fake, the environment of its key)
FAKES = {
    "canopywave": ("canopywave:CanopyWave", {"CANOPYWAVE_API_KEY": "cw_test.key"}),
    "lambda": ("lambda_cloud:LambdaCloud", {"LAMBDA_API_KEY": "lambda-test-key"}),
    "shadeform": ("shadeform:Shadeform", {"SHADEFORM_API_KEY": "shadeform-test-key"}),
    "runpod": ("runpod:RunPod", {"RUNPOD_API_KEY": "runpod-test-key"}),
    "hyperstack": ("hyperstack:Hyperstack", {"HYPERSTACK_API_KEY": "hyperstack-test-key"}),
    "verda": (
        "verda:Verda",
        {"VERDA_CLIENT_ID": "verda-test-client", "VERDA_CLIENT_SECRET": "verda-test-secret"},
    ),
    "vast": ("vast:Vast", {"VAST_API_KEY": "vast-test-key"}),
    "ec2": (
        "ec2:Ec2",
        {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "ec2-test-secret"},
    ),
    "openstack": (
        "openstack:OpenStack",
        {
            "OS_APPLICATION_CREDENTIAL_ID": "os-test-credential",
            "OS_APPLICATION_CREDENTIAL_SECRET": "os-test-secret",
        },
    ),
    "digitalocean": ("digitalocean:DigitalOcean", {"DIGITALOCEAN_TOKEN": "dop_v1_test"}),
}

#: how many cases of the fault matrix are in every test run; 3 where it is not said
SAMPLE = {"canopywave": 12}


def kind_of(provider):
    """The class of a provider's stand-in."""
    module, _colon, name = FAKES[provider][0].partition(":")
    return getattr(importlib.import_module(f"clouds.{module}"), name)


def fake(provider, **more):
    """Start a provider's stand-in."""
    return kind_of(provider)(**more)


def settings(cloud, **more):
    """`providers.<name>` of config.yaml for it."""
    own = getattr(cloud, "settings", {})
    return {
        "base_url": cloud.base_url, "ssh_user": cloud.user, "ssh_port": cloud.ssh_port,
        "timeout_s": 5, "settle_s": 3, **own, **more,
    }  # fmt: skip


def config(clouds, **more):
    """config.yaml for several, as JSON, which is YAML."""
    providers = {name: settings(cloud, **more) for name, cloud in clouds.items()}
    return json.dumps({"providers": providers})
