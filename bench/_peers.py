"""The ways people send a data set today, each as one would type it, its own login included.

Each leaves the tree in the far home folder, under its own name.
"""

import shlex
import shutil

from _link import BOX_ADDRESS

FAR = f"root@{BOX_ADDRESS}"


def rsync(link, source):
    return f'rsync -az -e "ssh {link.ssh}" {source}/ {FAR}:rsync'


def tar(link, source):
    there = shlex.quote("mkdir -p tar && zstd -dq | tar x -C tar")
    return f"tar c -C {source} . | zstd -q -T0 -3 | ssh {link.ssh} {FAR} {there}"


def zipped(link, source):
    archive = link.folder / "data.zip"
    unpack = shlex.quote("mkdir zip && unzip -q data.zip -d zip; rm data.zip")
    return (
        f"cd {source} && zip -q -6 -r {archive} . && scp -q {link.ssh} {archive} {FAR}:data.zip"
        f" && ssh {link.ssh} {FAR} {unpack} && rm {archive}"
    )


def sftp(link, source):
    """One put a file, as file managers and most libraries do."""
    batch = link.folder / "batch"
    lines = ["mkdir sftp"]
    for path in sorted(source.rglob("*")):
        far = f"sftp/{path.relative_to(source)}"
        lines.append(f"mkdir {far}" if path.is_dir() else f"put {path} {far}")
    batch.write_text("\n".join(lines) + "\n")
    return f"sftp -q {link.ssh} -b {batch} {FAR} > /dev/null"


def rclone(link, source):
    known = f"{link.folder}/known_hosts"
    far = f":sftp,host={BOX_ADDRESS},user=root,key_file={link.folder}/id,known_hosts_file={known}:rclone"
    return f'RCLONE_CONFIG=/dev/null rclone copy {source} "{far}"'


PEERS = {"rsync": rsync, "tar": tar, "zip": zipped, "sftp": sftp, "rclone": rclone}
SAID = {
    "rsync": "rsync -az",
    "tar": "tar, zstd -3, ssh",
    "zip": "zip -6, scp, unzip",
    "sftp": "sftp, file by file",
    "rclone": "rclone copy (sftp)",
}
_NEEDS = {"rsync": ["rsync"], "tar": ["zstd", "tar"], "zip": ["zip", "unzip"], "sftp": ["sftp"],
          "rclone": ["rclone"]}  # fmt: skip


def available(name):
    return all(shutil.which(program) for program in _NEEDS[name])
