// Tasks of BullMQ over the redis-server of redis_peers.py, run by two worker processes with 16 tasks each at a time:
// ns each. From build/bench, where `npm install --prefix build/bench bullmq ioredis` puts it.
// usage: bullmq.js PATH tasks|trip
const path = require("path");
const { fork } = require("child_process");

function load(name) {
  try {
    return require(path.join(__dirname, "../../build/bench/node_modules", name));
  } catch {
    console.log(`No module '${name}': npm install --prefix build/bench bullmq ioredis`);
    process.exit(1);
  }
}

const { Queue, QueueEvents, Worker } = load("bullmq");
const Redis = load("ioredis");
const [socket, what] = process.argv.slice(2);
const connection = () => new Redis({ path: socket, maxRetriesPerRequest: null });

async function measured(queue, events, n, what) {
  const start = process.hrtime.bigint();
  if (what === "trip") {
    for (let i = 0; i < n; i++) await (await queue.add("fabs", i)).waitUntilFinished(events);
  } else {
    for (let first = 0; first < n; first += 1000) {
      const batch = Array.from({ length: Math.min(1000, n - first) }, (_, i) => ({ name: "fabs", data: first + i }));
      const jobs = await queue.addBulk(batch);
      await Promise.all(jobs.map((job) => job.waitUntilFinished(events)));
    }
  }
  return Number(process.hrtime.bigint() - start);
}

async function main() {
  const workers = [0, 1].map(() => fork(__filename, [socket, "worker"]));
  await Promise.all(workers.map((w) => new Promise((ready) => w.once("message", ready))));
  const queue = new Queue("q", { connection: connection(), defaultJobOptions: { removeOnComplete: 1000 } });
  const events = new QueueEvents("q", { connection: connection() });
  await events.waitUntilReady();
  for (const emitter of [queue, events]) emitter.setMaxListeners(0);
  await measured(queue, events, 1000, "tasks");
  const least = Number(process.env.BENCH_SECONDS || 0.3) * 1e9;
  for (let n = 100; ; ) {
    const ns = await measured(queue, events, n, what);
    if (ns >= least) {
      console.log(`${(ns / n).toPrecision(6)} ns`);
      break;
    }
    n *= Math.max(2, Math.min(10, Math.floor(least / ns) + 1));
  }
  for (const w of workers) w.kill();
  process.exit(0);
}

if (what === "worker") {
  const worker = new Worker("q", async (job) => Math.abs(job.data), { connection: connection(), concurrency: 16 });
  worker.waitUntilReady().then(() => process.send("ready"));
} else {
  main();
}
