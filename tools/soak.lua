-- Opens many connections to a server with workers, in batches, and checks that the memory and the
-- descriptors of its processes stay flat.
--
--   build/mpengine tools/soak.lua [CONNECTIONS (200000) [WORKERS (2)]]
--
-- Most clients send a line and read it back. Of each hundred one sends nothing, one leaves in the
-- middle of a line, and one resets a connection that has unread input. Prints a line for each tenth
-- of the connections; ends with status 1 when anything has grown in the second half.
local mp = require "mpengine"
mp.monkey.patch_all()
local socket = require "socket"
local co = mp.co

local TOTAL, WORKERS = tonumber(arg[1]) or 200000, tonumber(arg[2]) or 2
local BATCHES, AT_ONCE = 10, 50
-- What a process may grow by: pages of the allocator; the clients have sockets of 8 KiB that wait for the collector.
local KIB_MOST, KIB_OF_CLIENTS = 2048, 8192

local server = mp.server.StreamServer {
  workers = WORKERS,
  handler = function(s)
    for line in function() return (s:receive()) end do s:send(line .. "\n") end
  end,
}

-- ---- clients ---------------------------------------------------------------------------------

local function connect()
  local c = assert(socket.connect("127.0.0.1", server.port))
  c:setoption("linger", { on = true, timeout = 0 }) -- no port waits for late packets
  return c
end

local clients = {
  [0] = function(c) c:close() end,
  [1] = function(c) c:send("half a line") c:close() end,
  [2] = function(c) c:send(("line\n"):rep(100)) c:close() end,
}

local function ask(c, i)
  local text = "hello " .. i
  c:send(text .. "\n")
  assert(c:receive() == text)
  c:close()
end

--- Makes so many connections, some at once.
local function make_connections(n)
  local next_one = 0
  local function client()
    while next_one < n do
      next_one = next_one + 1
      local act = clients[next_one % 100] or ask
      act(connect(), next_one)
    end
  end
  local tasks = {}
  for i = 1, AT_ONCE do tasks[i] = co.spawn(client) end
  co.joinall(tasks, nil, { raise_error = true })
end

-- ---- figures ---------------------------------------------------------------------------------

local function memory_of(pid)
  local f <close> = assert(io.open(("/proc/%d/status"):format(pid)))
  return tonumber(f:read "a":match "\nRssAnon:%s*(%d+) kB")
end

local function descriptors_of(pid)
  local n = 0
  for i = 0, 4095 do
    local f = io.open(("/proc/%d/fdinfo/%d"):format(pid, i))
    if f then f:close() n = n + 1 end
  end
  return n
end

local function wait_until_closed()
  while server:stats().open > 0 do co.sleep(0.01) end
end

--- Of the main process, which has the clients, and of the workers.
local function measure()
  wait_until_closed()
  collectgarbage()
  collectgarbage()
  local pids = { mp.current_process().pid }
  for _, worker in ipairs(server:stats().workers or {}) do pids[#pids + 1] = worker.pid end
  local figures = {}
  for i, pid in ipairs(pids) do
    figures[i] = { pid = pid, kib = memory_of(pid), descriptors = descriptors_of(pid) }
  end
  return figures
end

local function show(count, seconds, figures)
  local parts = {}
  for i, f in ipairs(figures) do
    parts[i] = ("%s %d KiB, %d descriptors"):format(i == 1 and "clients" or "worker", f.kib, f.descriptors)
  end
  print(("%7d  %6.1f s  %s"):format(count, seconds, table.concat(parts, "; ")))
end

local function check(first, last)
  for i, f in ipairs(last) do
    local was = first[i]
    if f.pid ~= was.pid then return "a worker has ended" end
    if f.kib > was.kib + (i == 1 and KIB_OF_CLIENTS or KIB_MOST) then
      return ("process %d has grown by %d KiB"):format(f.pid, f.kib - was.kib)
    end
    if f.descriptors > was.descriptors then
      return ("process %d has %d descriptors, and had %d"):format(f.pid, f.descriptors, was.descriptors)
    end
  end
  local stats = server:stats()
  if stats.accepted ~= TOTAL then return ("%d of %d connections were accepted"):format(stats.accepted, TOTAL) end
  if stats.failed > 0 then return ("%d handlers failed"):format(stats.failed) end
end

-- ---- the run ---------------------------------------------------------------------------------

server:start()
local start, done, first, last = socket.gettime(), 0, nil, nil
for batch = 1, BATCHES do
  local n = TOTAL * batch // BATCHES - done
  make_connections(n)
  done = done + n
  last = measure()
  if batch == BATCHES // 2 then first = last end
  show(done, socket.gettime() - start, last)
end
local why = check(first, last)
server:stop(1)
print(why and "soak: " .. why or "soak: flat")
os.exit(why and 1 or 0)
