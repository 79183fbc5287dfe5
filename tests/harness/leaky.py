#!/usr/bin/python3
"""A process that leaks, for tests. usage: leaky.py PORT MODE MEGABYTES_A_SECOND

MODE is what POST /cleanup does: helps, nothing or hangs. GET /metrics has its own memory and what it served."""
import http.server, os, sys, threading, time

port, mode, rate = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
kept, served = [], [0]


parent = os.getppid()


def leak():
    while True:
        # A test that failed, or a watchdog that was killed, must not leave it leaking: it would take the machine's memory.
        if os.getppid() != parent or resident() > 6 << 30:
            os._exit(1)
        kept.append(bytearray(int(rate * 250_000)))  # large, so that it goes back to the system when it is freed
        kept[-1][::4096] = b"x" * len(kept[-1][::4096])
        time.sleep(0.25)


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        served[0] += 1
        self.answer(
            "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %d\n"
            "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %f\n"
            "# TYPE requests_total counter\nrequests_total %d\n" % (resident(), start, served[0])
        )

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if mode == "hangs":
            time.sleep(3600)
        if mode == "helps":
            kept.clear()
        self.answer('{"resident": %d}' % resident())

    def log_message(self, *_):
        pass


start = time.time()
threading.Thread(target=leak, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
