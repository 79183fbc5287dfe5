#!/usr/bin/python3
"""A real SMTP server for tests, on aiosmtpd. usage: mailbox.py MAILDIR PORT plain|starttls|smtps [CERT KEY USER PASSWORD]
PORT 0 = the kernel picks. Prints 'READY <port>' once it listens."""
import asyncio, json, os, signal, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult

maildir, port, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
cert, key, user, password = (sys.argv[4:] + [None] * 4)[:4]
os.makedirs(maildir, exist_ok=True)
seq = 0

class Store:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("reject"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):
        global seq
        seq += 1
        base = os.path.join(maildir, "%04d" % seq)
        meta = {"from": envelope.mail_from, "to": envelope.rcpt_tos,
                "helo": session.host_name,
                "tls": session.ssl is not None or mode == "smtps",
                "auth": session.auth_data.login.decode() if session.authenticated else None}
        with open(base + ".json", "w") as f:
            json.dump(meta, f)
        with open(base + ".tmp", "wb") as f:          # exact bytes, CRLF, dots unstuffed
            f.write(envelope.original_content)
        os.rename(base + ".tmp", base + ".eml")       # .eml seen => .json and .eml complete
        return "250 2.0.0 stored as %04d" % seq

def authenticate(server, session, envelope, mechanism, data):
    ok = data.login == user.encode() and data.password == password.encode()
    return AuthResult(success=ok, handled=False, auth_data=data)   # handled=False: aiosmtpd sends 535

async def main():
    ctx, kw = None, {}
    if cert:
        ctx = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ctx.load_cert_chain(cert, key)
    if user:
        kw = dict(authenticator=authenticate, auth_required=True,
                  auth_require_tls=(mode == "starttls"))  # in smtps mode aiosmtpd doesn't know it is under TLS
    if mode == "starttls":
        kw.update(tls_context=ctx, require_starttls=True)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for s in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(s, stop.set)
    srv = await loop.create_server(lambda: SMTP(Store(), hostname="localhost", enable_SMTPUTF8=True, loop=loop, **kw),
                                   "127.0.0.1", port, ssl=ctx if mode == "smtps" else None)
    print("READY", srv.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    srv.close()

asyncio.run(main())
