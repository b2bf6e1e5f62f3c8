#!/bin/bash
# box.sh NETNS FOLDER [PROGRAM_TO_HIDE...]: a small machine inside a network namespace.
# Its root is an overlay over this one, so that what it writes stays in FOLDER; it has its own
# process ids, mounts and host name, a new user's home, and OpenSSH's server as process 1. Ending
# this script's child ends everything in it. FOLDER/authorized_keys lets in; FOLDER/host_key is made beforehand.
# Of the environment: KEEP=1 leaves what an earlier box of this folder wrote; HOME_SIZE gives root's home
# a disk of its own, of that size; SSHD_OPTIONS are more options of sshd.
set -eu
namespace=$1 folder=$2
shift 2
mkdir -p "$folder/upper" "$folder/work" "$folder/root"
export folder hidden="$*"
exec ip netns exec "$namespace" unshare --mount --pid --uts --ipc --fork --kill-child=KILL \
  --propagation private bash -euc '
    mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
    keys=$(cat "$folder/authorized_keys") host=$(cat "$folder/host_key")
    cd "$folder/root"
    mount -t proc proc proc
    mount -t tmpfs tmpfs run
    mount -t tmpfs tmpfs tmp
    mount --rbind /dev dev
    mount --make-rslave dev
    hostname box
    mkdir -p run/sshd old home/user
    pivot_root . old
    cd /
    umount -l /old
    for program in $hidden; do rm -f "/usr/bin/$program" "/usr/local/bin/$program"; done
    test -n "${KEEP:-}" || rm -rf /root/towline
    test -z "${HOME_SIZE:-}" || mount -t tmpfs -o "size=$HOME_SIZE,mode=700" tmpfs /root
    cp -r /etc/skel/. /root  # not what this machine runs at each login
    rm -rf /root/.ssh
    mkdir -m 700 /root/.ssh
    echo "$keys" > /root/.ssh/authorized_keys
    (umask 077; echo "$host" > /run/host_key)
    exec /usr/sbin/sshd -D -e -f /dev/null -h /run/host_key -o UsePAM=no -o StrictModes=no \
      -o PermitRootLogin=prohibit-password -o "Subsystem=sftp internal-sftp" ${SSHD_OPTIONS:-}
  '
