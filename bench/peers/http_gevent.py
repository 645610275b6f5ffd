"""requests on gevent. usage: http_gevent.py small URL   ns per request, 20 at once
                              http_gevent.py body URL    ns for 100 MB as bytes"""

from gevent import monkey

monkey.patch_all()

import sys

import bench
import gevent
import requests

URL = sys.argv[2]
AT_ONCE = 20


def small(n):
    left = n
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=AT_ONCE))

    def client():
        nonlocal left
        while left > 0:
            left -= 1
            assert session.get(URL + "/small").content == b"hello"

    gevent.joinall([gevent.spawn(client) for _ in range(AT_ONCE)], raise_error=True)


def big(n):
    for _ in range(n):
        assert len(requests.get(URL + "/big").content) == 100 << 20


if sys.argv[1] == "small":
    bench.ns(small)
else:
    bench.ns(big, 1)
