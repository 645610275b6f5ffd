"""An HTTPS server for the specs, with the certificate of tls/. Prints its port, and answers each request with `secret`
and two lines of X-Line."""

import http.server
import os
import ssl

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tls")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        for name, value in (("Content-Length", "6"), ("X-Line", "one"), ("x-line", "two")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"secret")

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(HERE, "cert.pem"), os.path.join(HERE, "key.pem"))
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
