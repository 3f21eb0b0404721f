#!/usr/bin/env python3
"""What hostile clients of the port cost others: `benches/port.py PROGRAM...`, as root, three minutes a program.

`crowd`: 1000 clients ask for the page and do not read it. The memory that this takes in the process and in the kernel
together (at most 64 MB), and how long scrapes take over a line of 50 ms, before and beside them. The line is two tun
devices, one of them in a network namespace of its own, between which each packet waits for 25 ms.

`flood`: 200 wrong log-ins a second for 30 s, a third of them for a known user, while the web configuration is written anew
and reloaded. Every scrape of a known user is answered within 2 s.
"""

import base64
import collections
import fcntl
import http.client
import multiprocessing
import os
import re
import resource
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

NEAR, FAR = "10.77.0.1", "10.77.0.2"
# rabbit and hole, as `htpasswd -nBC 10 ""` prints them.
USERS = """basic_auth_users:
  alice: $2b$10$t2NZoABJNkQmqyNC3sVxSerZYhuinpcz4maXvcC39xieSVldB0K26
  bob: $2b$10$.1mF0RNEJHUZWdVVHHSp0.WLesR/26FQ7.7c4aYta/dsxVZ8karOy
"""


def tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH", name.encode(), 0x0001 | 0x1000))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
    return device


def forward(source, target):
    """Passes packets on, 25 ms later."""
    waiting = collections.deque()
    while True:
        patience = max(0, waiting[0][0] - time.monotonic()) if waiting else 1
        if select.select([source], [], [], patience)[0]:
            try:
                while True:
                    waiting.append((time.monotonic() + 0.025, os.read(source, 65536)))
            except BlockingIOError:
                pass
        while waiting and waiting[0][0] <= time.monotonic():
            try:
                os.write(target, waiting.popleft()[1])
            except OSError:
                pass  # The other side is full, as lines are.


def line():
    """Makes the line. Its devices end with this process."""
    subprocess.run("ip netns delete far; ip link delete near", shell=True, stderr=subprocess.DEVNULL)
    subprocess.run("ip netns add far", shell=True, check=True)
    near, far = tun("near"), tun("far")
    for command in (
        "ip link set far netns far",
        f"ip address add {NEAR}/24 dev near",
        "ip link set near up txqueuelen 10000 mtu 9000",
        f"ip -n far address add {FAR}/24 dev far",
        "ip -n far link set far up txqueuelen 10000 mtu 9000",
    ):
        subprocess.run(command, shell=True, check=True)
    for ends in ((near, far), (far, near)):
        # Threads would wait for each other.
        multiprocessing.get_context("fork").Process(target=forward, args=ends, daemon=True).start()


class Program:
    def __init__(self, path, *arguments):
        files = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        command = [path, "demo", "--web.listen-address=0.0.0.0:0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={}, preexec_fn=files)
        self.port = None
        while self.port is None:
            found = re.search(r"message=listening address=0\.0\.0\.0:(\d+)", self.process.stderr.readline())
            self.port = found and int(found[1])
        threading.Thread(target=lambda: collections.deque(self.process.stderr, 0), daemon=True).start()
        time.sleep(10)

    def resident(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) * 1024

    def sockets(self):
        """The bytes that wait in its sockets, in either direction."""
        told = subprocess.run(["ss", "-Htmn", f"sport = :{self.port}"], capture_output=True, text=True).stdout
        return sum(sum(map(int, each)) for each in re.findall(r"skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f(\d+),w(\d+)", told))


def scrape(connection, headers):
    start = time.monotonic()
    connection.request("GET", "/metrics", headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status, time.monotonic() - start


def scrapes(port):
    """What `crowd` runs at the far end: medians in milliseconds."""
    for encoding in ("gzip", "identity"):
        connect = lambda: http.client.HTTPConnection(NEAR, port, timeout=60)
        headers, kept = {"Accept-Encoding": encoding}, connect()
        scrape(kept, headers)
        times = [[scrape(kept, headers)[1] for _ in range(15)], [scrape(connect(), headers)[1] for _ in range(15)]]
        of_kept, of_new = (statistics.median(each) * 1000 for each in times)
        print(f"{encoding}, connection kept {of_kept:.0f} ms, new {of_new:.0f} ms", end="; ")


def crowd(path):
    program = Program(path)

    def measure(when):
        command = ["ip", "netns", "exec", "far", sys.executable, __file__, "--scrapes", str(program.port)]
        print(f"  scrapes {when}: {subprocess.run(command, capture_output=True, text=True, check=True).stdout}")

    measure("at rest")
    before, clients = program.resident(), []
    for _ in range(1000):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", program.port))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        clients.append(client)
    time.sleep(2)
    grown, waiting = (program.resident() - before) / 1e6, program.sockets() / 1e6
    print(f"  1000 that do not read: {grown:.1f} MB resident, {waiting:.1f} MB in sockets, {grown + waiting:.1f} MB of 64")
    measure("beside them")
    program.process.kill()


def flood(path):
    file = tempfile.NamedTemporaryFile("w", suffix=".yml")
    file.write(USERS)
    file.flush()
    program = Program(path, f"--web.config.file={file.name}")
    end = time.monotonic() + 30
    statuses, longest, wrong = collections.Counter(), collections.Counter(), collections.Counter()

    def ask(name, password):
        header = base64.b64encode(f"{name}:{password}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=30)
        try:
            return scrape(connection, {"Authorization": f"Basic {header}"})
        finally:
            connection.close()

    def know(name, password):
        while time.monotonic() < end:
            status, took = ask(name, password)
            statuses[name, status] += 1
            longest[name] = max(longest[name], took)
            time.sleep(0.5)

    def guess(number):
        count = 0
        time.sleep(number / 240)
        while time.monotonic() < end:
            count += 1
            next_one = time.monotonic() + 1
            name = "alice" if count % 3 == 0 else f"nobody-{count % 7}"
            wrong[ask(name, f"wrong-{number}-{count}")[0]] += 1
            time.sleep(max(0, next_one - time.monotonic()))

    def disturb():
        while time.monotonic() < end:
            for _ in range(3):
                file.seek(0)
                file.write(USERS + "#" * int(time.monotonic() % 20) + "\n")
                file.truncate()
                file.flush()
                time.sleep(1.5)
            program.process.send_signal(1)

    known = (("alice", "rabbit"), ("bob", "hole"))
    for name, password in known:
        ask(name, password)
    threads = [threading.Thread(target=know, args=each) for each in known]
    threads += [threading.Thread(target=guess, args=(number,)) for number in range(240)]  # some wait longer than their second
    threads.append(threading.Thread(target=disturb))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"  {sum(wrong.values())} wrong log-ins in 30 s: {dict(wrong)}")
    for name, _ in known:
        of_name = {status: count for (each, status), count in statuses.items() if each == name}
        print(f"  {name}: {of_name}, at most {longest[name]:.3f} s of 2")
    program.process.kill()


def main():
    if sys.argv[1] == "--scrapes":
        return scrapes(int(sys.argv[2]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    line()
    for path in sys.argv[1:]:
        for measure in (crowd, flood):
            print(f"{path}, {measure.__name__}", flush=True)
            measure(path)
    subprocess.run("ip netns delete far", shell=True)


if __name__ == "__main__":
    main()
