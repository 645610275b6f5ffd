-- An accepted socket goes to a worker, which answers its client: ns from the put to the answer at the client.
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

bench.ns(function(n)
  local seconds = 0
  for _ = 1, n do
    local client = assert(socket.connect(host, port))
    local connection = assert(listener:accept())
    local start = bench.now()
    jobs:put(connection)
    connection:close()
    assert(client:receive(1) == "x")
    seconds = seconds + bench.now() - start
    client:close()
  end
  return seconds
end, 100)
jobs:close()
worker:join()
