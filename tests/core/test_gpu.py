"""Promise: what was asked for is what is trained on. One name, one chip; a part is not a whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.core import gpu
from towline.core.gpu import Gpu

#: what nvidia-smi and vendors call a GPU -> model, GB where the name says it
WHOLE = {
    "NVIDIA GeForce RTX 4090": ("RTX4090", None),
    "NVIDIA GeForce RTX 4090 D": ("RTX4090D", None),
    "RTX 4090D": ("RTX4090D", None),
    "NVIDIA GeForce RTX 5090 D": ("RTX5090D", None),
    "NVIDIA GeForce RTX 5090 D v2": ("RTX5090DV2", None),
    "NVIDIA GeForce RTX 4090 Laptop GPU": ("RTX4090LAPTOP", None),
    "NVIDIA GeForce RTX 2080 with Max-Q Design": ("RTX2080LAPTOP", None),
    "NVIDIA GeForce RTX 3090": ("RTX3090", None),
    "NVIDIA GeForce RTX 3090 Ti": ("RTX3090TI", None),
    "RTX3090Ti": ("RTX3090TI", None),
    "NVIDIA GeForce RTX 4070": ("RTX4070", None),
    "NVIDIA GeForce RTX 4070 Ti": ("RTX4070TI", None),
    "NVIDIA GeForce RTX 4070 SUPER": ("RTX4070SUPER", None),
    "NVIDIA GeForce RTX 4070 Ti SUPER": ("RTX4070TISUPER", None),
    "RTX 4070S Ti": ("RTX4070TISUPER", None),
    "RTX 4080S": ("RTX4080SUPER", None),
    "NVIDIA GeForce GTX 1080 Ti": ("GTX1080TI", None),
    "NVIDIA TITAN RTX": ("TITANRTX", None),
    "NVIDIA RTX 6000 Ada Generation": ("RTX6000ADA", None),
    "RTX 6000Ada": ("RTX6000ADA", None),
    "1x RTX6000 Ada 48GB": ("RTX6000ADA", 48),
    "nvidia_rtx4000_ada": ("RTX4000ADA", None),
    "NVIDIA RTX 4000 SFF Ada Generation": ("RTX4000SFFADA", None),
    "NVIDIA RTX 5000 Ada Generation Laptop GPU": ("RTX5000ADALAPTOP", None),
    "NVIDIA RTX A6000": ("A6000", None),
    "RTX-A6000": ("A6000", None),
    "n3-RTX-A6000x2": ("A6000", None),
    "Quadro RTX 6000": ("RTX6000", None),
    "Q RTX 8000": ("RTX8000", None),
    "NVIDIA RTX 6000D": ("RTX6000D", None),
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": ("RTXPRO6000", None),
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": ("RTXPRO6000", None),
    "RTX PRO Server 6000": ("RTXPRO6000", None),
    "RTX-PRO6000-SE": ("RTXPRO6000", None),
    "NVIDIA RTX PRO 4000 Blackwell SFF Edition": ("RTXPRO4000SFF", None),
    "NVIDIA H100 80GB HBM3": ("H100", 80),
    "NVIDIA H100 PCIe": ("H100", None),
    "NVIDIA H100 NVL": ("H100", None),
    "H100_sxm5": ("H100", None),
    "H100-80G-PCIe-NVLink": ("H100", 80),
    "8x NVIDIA H100 (80 GB SXM5)": ("H100", 80),
    "1x H100 SXM5 80GB": ("H100", 80),
    "nvidia_h100": ("H100", None),
    "NVIDIA H200 NVL": ("H200", None),
    "NVIDIA H20": ("H20", None),
    "NVIDIA H800": ("H800", None),
    "NVIDIA GH200 480GB": ("GH200", None),  # the processor's memory
    "NVIDIA GH200 144G HBM3e": ("GH200", 144),
    "GH200 (96 GB)": ("GH200", 96),
    "NVIDIA GB200": ("GB200", None),
    "NVIDIA B200": ("B200", None),
    "NVIDIA A100-SXM4-40GB": ("A100", 40),
    "NVIDIA A100 80GB PCIe": ("A100", 80),
    "gpu_8x_a100_80gb_sxm4": ("A100", 80),
    "A100_80G": ("A100", 80),
    "NVIDIA A800-SXM4-80GB": ("A800", 80),
    "NVIDIA L4": ("L4", None),
    "NVIDIA L40": ("L40", None),
    "nvidia_l40s": ("L40S", None),
    "NVIDIA L20": ("L20", None),
    "NVIDIA A10": ("A10", None),
    "NVIDIA A10G": ("A10G", None),
    "Tesla T4": ("T4", None),
    "Tesla V100-SXM2-16GB": ("V100", 16),
    "Tesla V100S-PCIE-32GB": ("V100S", 32),
    "Tesla P100-PCIE-16GB": ("P100", 16),
    "Tesla K80": ("K80", None),
    "AMD Instinct MI300X OAM": ("MI300X", None),
    "amd_mi300x": ("MI300X", None),
    "Radeon RX 7900 XTX": ("RX7900XTX", None),
}
PARTS = (
    "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "MIG 1g.10gb H100", "h100-1g-10gb", "GRID A100D-20C",
    "NVIDIA A100-1-10C", "NVIDIA L40S-48Q", "NVIDIA RTX6000-Ada-48Q", "NVIDIA A40-8Q", "A16-2B",
    "0.5x H100", "0.5 x H100", ".25 H100", "1.5x H100", "1/2 H100", "H100 (shared)", "vGPU A10",
    "L40S fractional", "A100 slice",
)  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_each_name_is_its_model_and_a_whole_one(name):
    found = gpu.parse(name)
    assert found == Gpu(*WHOLE[name])


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_gpu_is_said_to_be_one_and_fits_nothing(name):
    found = gpu.parse(name)
    assert found is not None
    assert found.part
    assert not found.fits(Gpu(found.model))


def test_no_two_chips_pass_for_each_other():
    models = sorted({model for model, _gb in WHOLE.values()})
    assert [
        (one, other) for one in models for other in models
        if Gpu(one).fits(Gpu(other)) and one != other
    ] == []  # fmt: skip


@pytest.mark.parametrize(
    "text", ["many", "0.5x H100", "H100:0.5", "2x H100", "H100:0", "H100:²", "H100-1g.10gb", ""]
)
def test_what_can_not_be_had_can_not_be_asked_for(text):
    with pytest.raises(ValueError, match="is no GPU"):
        gpu.parse_need(text)


@pytest.mark.parametrize(("text", "model"), [("RTX 4090 D:2", "RTX4090D"), ("h100:2", "H100")])
def test_a_need_names_the_model_as_a_driver_does(text, model):
    assert gpu.parse_need(text) == (Gpu(model), 2)


@given(st.text(max_size=60))
def test_no_text_breaks_it(text):
    gpu.parse(text)
    gpu.is_part(text)


#: memory.total of real cards, in MiB
@pytest.mark.parametrize(
    ("name", "mib"),
    [
        ("NVIDIA H100 80GB HBM3", 81559), ("NVIDIA A100-SXM4-40GB", 40536), ("Tesla T4", 15109),
        ("NVIDIA A10G", 22731), ("NVIDIA L4", 23034), ("NVIDIA L40S", 46068), ("Tesla K80", 11441),
        ("NVIDIA GeForce RTX 4090", 24564), ("NVIDIA H200", 143771), ("NVIDIA B200", 183359),
        ("NVIDIA GH200 480GB", 97871), ("Tesla V100-SXM2-16GB", 16160), ("NVIDIA A30", 24576),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887), ("NVIDIA RTX A6000", 46068),
    ],
)  # fmt: skip
def test_a_real_card_has_the_memory_that_its_model_needs(name, mib):
    row = {"name": name, "memory_mib": str(mib), "mig": "Disabled"}
    assert gpu.shortfall([row], Gpu(gpu.parse(name).model), 1) is None
