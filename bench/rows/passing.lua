-- An accepted socket goes to a worker, which answers its client: ns from the put to the answer at the client,
-- the median of many.
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"
local socket = require "socket"

local jobs = mp.Queue()
local worker = mp.Process(function()
  for connection in jobs:iter() do
    connection:send "x"
    connection:close()
  end
end)
worker:start()

local listener = assert(socket.bind("127.0.0.1", 0))
local host, port = listener:getsockname()

local function one()
  local client = assert(socket.connect(host, port))
  local connection = assert(listener:accept())
  local start = bench.now()
  jobs:put(connection)
  connection:close()
  assert(client:receive(1) == "x")
  local seconds = bench.now() - start
  client:close()
  return seconds
end

local times = {}
for i = 1, 3000 do times[i] = one() end
bench.report(bench.median(times) * 1e9, "ns")
jobs:close()
worker:join()
