#!/usr/bin/env bash
# podman DIRECTORY ARGUMENTS...: podman with its store in DIRECTORY, where it need not be the machine's own podman: in
# namespaces of its own, so that nothing of it outlives this script, and with control groups of version 2, which crun
# wants. Stops a container that runs by SIGTERM when its stdin ends.
set -euo pipefail
[[ ${inside:-} ]] || inside=1 exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
  "$BASH" "$0" "$@" || { echo "podman cannot run here: it needs root and the right to make namespaces" >&2; exit 1; }

umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
store="$1"
shift
# A background job's own stdin is /dev/null.
exec 3<&0
podman --storage-driver=vfs --root="$store/root" --runroot="$store/run" --cgroup-manager=cgroupfs "$@" </dev/null &
podman=$!
[[ $1 != run ]] || { cat <&3 >/dev/null; kill -TERM "$podman"; } &
wait "$podman"
