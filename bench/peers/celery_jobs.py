"""What Celery's workers of redis_peers.py import: the application and its task. The server is in REDIS_PATH."""

import math
import os

from celery import Celery

SERVER = "redis+socket://" + os.environ["REDIS_PATH"]
app = Celery("jobs", broker=SERVER, backend=SERVER)


@app.task
def fabs(x):
    return math.fabs(x)
