#!/usr/bin/env bash
# systemd.sh PROGRAM OUT: runs the units of deploy/systemd under a systemd of their own, in namespaces that end with this
# script. PROGRAM is installed where the units want it. What was seen is in OUT/seen when OUT/done is there.
set -euo pipefail
[[ ${inside:-} ]] || inside=1 exec unshare --mount --propagation private --net --pid --fork --kill-child --mount-proc \
  "$BASH" "$0" "$@" || { echo "systemd cannot run here: it needs root and the right to make namespaces" >&2; exit 1; }
program="$1" out="$2"
name=container-registry-exporter

umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
# systemd mounts the keys in a namespace and expects to see them in its own.
mount --make-rshared /
# What is written goes nowhere else; the directory that this may make stays, empty.
mkdir -p "/etc/$name"
for directory in /run /var/lib /etc/systemd/system "/etc/$name" /usr/local/bin; do
  mount -t tmpfs -o mode=755 none "$directory"
done

install "$program" "/usr/local/bin/$name"
cp deploy/systemd/* /etc/systemd/system/
mkdir --mode=700 "/etc/$name/keys"
echo access >"/etc/$name/keys/ncr-access-key"
echo secret >"/etc/$name/keys/ncr-secret-key"
chmod 600 "/etc/$name/keys"/*
cat >"/etc/$name/config.toml" <<END
[sources.ncr]
provider = "ncr"
region = "KR"
[sources.ncr.auth]
access_key_file = "/run/credentials/$name.service/key_ncr-access-key"
secret_key_file = "/run/credentials/$name.service/key_ncr-secret-key"
END

# Without the rest of a system, which its default dependencies would start.
for unit in "$name.service" "$name.socket" network-online.target look.service; do
  mkdir "/etc/systemd/system/$unit.d"
  printf '[Unit]\nDefaultDependencies=no\n' >"/etc/systemd/system/$unit.d/alone.conf"
done
printf '[Service]\nStandardError=append:%s\n' "$out/log" >"/etc/systemd/system/$name.service.d/log.conf"
cat >"$out/look" <<END
curl --silent --show-error --retry 20 --retry-delay 1 --retry-all-errors http://127.0.0.1:10190/-/healthy
systemctl reload $name && echo reloaded
curl --silent --show-error http://127.0.0.1:10190/metrics | grep '^process_start_time_seconds\|reload_successful '
systemctl stop $name.socket $name.service
systemctl show $name --property=Result,ExecMainStatus
touch "$out/done"
END
cat >/etc/systemd/system/look.service <<END
[Unit]
Wants=$name.service
After=$name.service
[Service]
ExecStart=/bin/bash "$out/look"
StandardOutput=append:$out/seen
StandardError=append:$out/seen
END
container=other exec /lib/systemd/systemd --system --unit=look.service --log-target=console --show-status=no
