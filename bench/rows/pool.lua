-- Pools of two workers: ns per tiny task for each way to hand tasks over, ns until the first result of a new pool,
-- the gain of two workers over one for work that needs the CPU, and two rows with 64 workers.
-- usage: pool.lua map1|map|apply|apply_async|imap_unordered|imap100|first|cpu|idle64|sleep64
--        pool.lua submit20000|unordered20000|map200000|imap100_200000   one burst of that size, in a new pool
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local function inc(x) return x + 1 end

local function numbers(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

-- Reports ns per task of work(pool, n), on a pool whose workers all run already.
local function tasks(workers, work)
  local pool <close> = mp.Pool(workers)
  pool:map(inc, numbers(workers * 4), { chunksize = 1 })
  bench.ns(function(n)
    local list = numbers(n)
    local start = bench.now()
    work(pool, list)
    return bench.now() - start
  end, 200)
end

local run = {}

function run.map1()
  tasks(2, function(pool, list) pool:map(inc, list, { chunksize = 1 }) end)
end

function run.map()
  tasks(2, function(pool, list) pool:map(inc, list) end)
end

function run.apply()
  tasks(2, function(pool, list)
    for i = 1, #list do pool:apply(inc, { i }) end
  end)
end

function run.apply_async()
  tasks(2, function(pool, list)
    for i = 1, #list do list[i] = pool:apply_async(inc, { i }) end
    for i = 1, #list do list[i]:get() end
  end)
end

function run.imap_unordered()
  tasks(2, function(pool, list)
    local sum = 0
    for _, v in pool:imap_unordered(inc, list) do sum = sum + v end
  end)
end

function run.imap100()
  tasks(2, function(pool, list)
    local sum = 0
    for _, v in pool:imap(inc, list, { chunksize = 100 }) do sum = sum + v end
  end)
end

-- Reports ns per task of one burst of n tasks, the median of three.
local function burst(n, work)
  local pool <close> = mp.Pool(2)
  pool:map(inc, numbers(8), { chunksize = 1 })
  local took = {}
  for i = 1, 3 do
    local list = numbers(n)
    local start = bench.now()
    work(pool, list)
    took[i] = bench.now() - start
  end
  bench.report(bench.median(took) / n * 1e9, "ns")
end

function run.submit20000()
  burst(20000, function(pool, list)
    for i = 1, #list do list[i] = pool:apply_async(inc, { i }) end
    for i = 1, #list do list[i]:get() end
  end)
end

function run.unordered20000()
  burst(20000, function(pool, list)
    local sum = 0
    for _, v in pool:imap_unordered(inc, list) do sum = sum + v end
  end)
end

function run.map200000()
  burst(200000, function(pool, list) pool:map(inc, list) end)
end

function run.imap100_200000()
  burst(200000, function(pool, list)
    local sum = 0
    for _, v in pool:imap(inc, list, { chunksize = 100 }) do sum = sum + v end
  end)
end

function run.first()
  local total, pools <const> = 0, 10
  for _ = 1, pools do
    local start = bench.now()
    local pool <close> = mp.Pool(2)
    pool:apply(inc, { 1 })
    total = total + bench.now() - start
  end
  bench.report(total / pools * 1e9, "ns")
end

function run.cpu()
  local function burn(n)
    local x = 0
    for i = 1, n do x = x + i % 7 end
    return x
  end
  local loads = {}
  for i = 1, 40 do loads[i] = 500000 end

  local function seconds(workers)
    local pool <close> = mp.Pool(workers)
    pool:map(burn, { 1, 1, 1, 1 }, { chunksize = 1 })
    local start = bench.now()
    pool:map(burn, loads, { chunksize = 1 })
    return bench.now() - start
  end
  bench.report(seconds(1) / seconds(2), "x")
end

function run.idle64()
  tasks(64, function(pool, list) pool:map(inc, list, { chunksize = 1 }) end)
end

function run.sleep64()
  local function nap() mp.sleep(0.0002) end
  tasks(64, function(pool, list) pool:map(nap, list, { chunksize = 1 }) end)
end

run[arg[1]]()
