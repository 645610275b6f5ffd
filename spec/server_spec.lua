-- Servers of streams. Their clients here are LuaSocket in the same program, and Python.
local support = require "spec.support"

-- serve(settings) starts a server; ask(s, text) is one connection with one line there and back.
local HEAD = [[
  local co, socket = mp.co, nil
  mp.monkey.patch_all()
  socket = require "socket"
  local function echo(s) for line in function() return (s:receive()) end do s:send(line .. "\n") end end
  local function serve(settings)
    settings.handler = settings.handler or echo
    return mp.server.StreamServer(settings):start()
  end
  local function connect(s)
    local c = assert(socket.connect("127.0.0.1", s.port))
    c:settimeout(10)
    return c
  end
  local function ask(s, text)
    local c = connect(s)
    c:send(text .. "\n")
    local answer, why = c:receive()
    c:close()
    return answer, why
  end
]]
local function ok(code) return support.ok(HEAD .. code) end
local function run(code) return support.run(HEAD .. code) end

describe("a StreamServer", function()
  it("runs its handler in a task for each connection, and closes it", function()
    ok[[
      local s <close> = serve { handler = function(c, peer)
        assert(peer:find "^127%.0%.0%.1:%d+$", peer)
        c:send(c:receive():upper() .. "\n")
      end }
      local clients = {}
      for i = 1, 50 do clients[i] = co.spawn(ask, s, "client " .. i) end
      for i = 1, 50 do eq(clients[i]:get(), "CLIENT " .. i) end
      local c = connect(s)
      c:send "x\n"
      eq(c:receive "*a", "X\n") -- then it is closed
      until_true(function() return s:stats().open == 0 end)
      eq(s:stats().accepted, 51)
      eq(s:stats().failed, 0)]]
  end)

  for _, method in ipairs { "fork", "spawn", "forkserver" } do
    it("has workers by " .. method .. " that share the listener, and the main process serves nothing", function()
      ok(("mp.set_start_method '%s'"):format(method) .. [[
        local s <close> = serve { workers = 2, handler = function(c)
          echo(c)
          c:send(mp.current_process().pid .. "\n")
        end }
        local function pid_of_server()
          local c = connect(s)
          c:shutdown "send"
          return tonumber(c:receive())
        end
        local pids = {}
        until_true(function()
          local asked = {}
          for i = 1, 20 do asked[i] = co.spawn(pid_of_server) end
          for i = 1, 20 do pids[asked[i]:get()] = true end
          local n = 0
          for _ in pairs(pids) do n = n + 1 end
          return n == 2
        end)
        assert(not pids[mp.current_process().pid])
        local stats = s:stats()
        eq(#stats.workers, 2)
        assert(pids[stats.workers[1].pid] and pids[stats.workers[2].pid])]])
    end)
  end

  it("replaces a worker that dies, and says so", function()
    local r = run[[
      local s <close> = serve { workers = 1, handler = function(c)
        if c:receive() == "die" then kill(0) end
        c:send(mp.current_process().pid .. "\n")
      end }
      local first = ask(s, "pid")
      eq(ask(s, "die"), nil)
      local second = ask(s, "pid")
      assert(first ~= second)
      print "served again"]]
    assert.equal("served again\n", r.stdout)
    assert.truthy(r.stderr:find "server: worker server%-1 %(pid %d+%) ended with %-9; the next one starts in 0%.1 s",
      r.stderr)
    assert.equal(0, r.status)
  end)

  it("reports a handler that raises, and goes on", function()
    local r = run[[
      local s <close> = serve { handler = function(c)
        if c:receive() == "raise" then error "what the handler says" end
        c:send "fine\n"
      end }
      local answer, why = ask(s, "raise")
      eq({ tostring(answer), why }, { "nil", "closed" })
      eq(ask(s, "x"), "fine")
      eq(s:stats().failed, 1)
      print "goes on"]]
    assert.equal("goes on\n", r.stdout)
    assert.truthy(r.stderr:find("what the handler says", 1, true))
    assert.equal(0, r.status)
  end)

  it("has its workers when start returns, also for a client that blocks the main process", function()
    support.ok [[
      local s = mp.server.StreamServer { workers = 2, handler = function(c) c:send(c:receive() .. "\n") end }
      s:start()
      local c = require "socket".connect("127.0.0.1", s.port)
      c:settimeout(10)
      c:send "hello\n"
      eq(c:receive(), "hello")
      s:stop(0)]]
  end)

  it("says why its workers cannot be started, and leaves nothing open", function()
    support.ok [[
      local s = mp.server.StreamServer { workers = 2, handler = print }
      s.context = { Process = function() return { start = function() error("no process", 0) end } end }
      raises("no process", s.start, s)
      raises("refused", function() assert(require "socket".connect("127.0.0.1", s.port)) end)]]
  end)

  for _, workers in ipairs { 0, 1 } do
    it(("stops: handlers end, those that do not are cancelled (%d workers)"):format(workers), function()
      ok([[
        local seen = mp.RawArray("i", 2)
        local s = serve { workers = ]] .. workers .. [[, handler = function(c)
          local wish = c:receive()
          local guard <close> = setmetatable({}, { __close = function() seen[2] = seen[2] + 1 end })
          c:send "got it\n"
          if wish == "short" then co.sleep(0.2) seen[1] = 1 c:send "done\n" else co.sleep(60) end
        end }
        local short, long = connect(s), connect(s)
        short:send "short\n" long:send "long\n"
        eq(short:receive(), "got it")
        eq(long:receive(), "got it")
        local from = now()
        s:stop(0.6)
        late(from, 0.6)
        assert(now() - from < 5)
        eq(short:receive(), "done")
        eq(select(2, long:receive()), "closed")
        eq({ seen[1], seen[2] }, { 1, 2 })
        eq(socket.connect("127.0.0.1", s.port), nil)
        eq(s:stop(), true)]])
    end)
  end

  it("stops with a connection whose handler has not begun", function()
    ok[[
      local s = serve { handler = function() co.sleep(60) end }
      local first = connect(s)
      until_true(function() return s:stats().accepted == 1 end)
      co.spawn(function()
        local c = connect(s)
        while s:stats().accepted == 1 do co.sleep(0) end -- its task is made, and may not have run
        s:stop(0)
        eq(s:stats().open, 0)
        eq(select(2, c:receive()), "closed")
        eq(select(2, first:receive()), "closed")
      end):get()]]
  end)

  it("stops at once while it waits to replace a worker", function()
    local r = run[[
      local s = serve { workers = 1, handler = function() kill(0) end }
      for _ = 1, 5 do ask(s, "die") end -- the pause is 1.6 s by now, or more
      local worker_is_gone = co.spawn(ask, s, "die")
      co.sleep(0.05)
      local from = now()
      s:stop(0)
      assert(now() - from < 1, "it waited for the pause")
      worker_is_gone:kill()
      print "stopped"]]
    assert.equal("stopped\n", r.stdout)
    assert.equal(0, r.status)
  end)

  it("serves until SIGTERM in serve_forever", function()
    ok[[
      local port = mp.Queue()
      local p = mp.Process{ target = function()
        local s = mp.server.StreamServer { handler = function(c) c:send(c:receive()) end }
        s:start()
        port:put(s.port)
        s:serve_forever()
        print "stopped well"
      end }
      p:start()
      eq(ask({ port = port:get() }, "x"), nil) -- no end of line is sent
      p:terminate()
      eq(p:join(10), true)
      eq(p.exitcode, 0)]]
  end)

  it("accepts no more connections than max_connections at once", function()
    ok[[
      local most, open = 0, 0
      local s <close> = serve { max_connections = 2, handler = function(c)
        open = open + 1
        most = math.max(most, open)
        c:receive()
        co.sleep(0.01)
        open = open - 1
        c:send "ok\n"
      end }
      local clients = {}
      for i = 1, 10 do clients[i] = co.spawn(ask, s, "x") end
      for i = 1, 10 do eq(clients[i]:get(), "ok") end
      eq(most, 2)]]
  end)

  it("waits for a descriptor when there is none, and loses no connection", function()
    ok[[
      local s <close> = serve {}
      eq(ask(s, "warm"), "warm")
      local clients = {}
      for i = 1, 20 do clients[i] = connect(s) end
      co.sleep(0.05)
      local taken, f = {}, nil
      repeat f = io.open "/dev/null" taken[#taken + 1] = f until not f
      taken[#taken]:close() -- one for the client, none for the server
      taken[#taken] = nil
      local late_one = co.spawn(ask, s, "late")
      co.sleep(0.05)
      eq(late_one:ready(), false)
      clients[1]:close()
      clients[2]:close()
      eq(late_one:get(10), "late")]]
  end)

  it("takes no second descriptor and little memory for a connection", function()
    ok[[
      local s <close> = serve {}
      eq(ask(s, "x"), "x")
      until_true(function() return s:stats().open == 0 end)
      local before = descriptors()
      for _ = 1, 2000 do eq(ask(s, "x"), "x") end
      until_true(function() return s:stats().open == 0 end)
      assert(descriptors() <= before + 1)]]
  end)

  for _, workers in ipairs { 0, 2 } do
    it(("stays as it is over many connections, also broken ones (%d workers)"):format(workers), function()
      local no_quarantine = (os.getenv "ASAN_OPTIONS" or "")
        .. ":quarantine_size_mb=0:thread_local_quarantine_size_kb=0" -- freed memory is used again
      local r = support.run(nil, { file = "tools/soak.lua", args = { 5000, workers }, timeout = 60,
        env = { ASAN_OPTIONS = no_quarantine } })
      assert.equal("soak: flat\n", r.stdout:match "[^\n]*\n$", r.stdout .. r.stderr)
      assert.equal("", r.stderr)
      assert.equal(0, r.status)
    end)
  end

  it("says what is wrong with its settings", function()
    ok[[
      local S = mp.server.StreamServer
      raises("StreamServer: field 'handler' must be a function, got no value", S, {})
      raises("StreamServer: field 'handler' must be a function, got string", S, { handler = "x" })
      raises("StreamServer: field 'port' must be an integer from 0 to 65535, got 70000", S,
        { port = 70000, handler = print })
      raises("StreamServer: unknown field 'prot'", S, { prot = 1, handler = print })
      raises("bad argument #1 to 'StreamServer' (table expected", S, print)
      local s <close> = serve {}
      raises("StreamServer:start: the server was started before", s.start, s)
      raises("cannot listen on 127.0.0.1:" .. s.port .. ": address already in use", function()
        serve { port = s.port }
      end)
      raises("cannot listen on no.such.host.invalid:0", function() serve { host = "no.such.host.invalid" } end)
      raises("bad argument #1 to 'StreamServer:stop'", s.stop, s, -1)]]
  end)
end)

describe("the sockets of a server", function()
  it("have LuaSocket's methods and results", function()
    ok[[
      local results
      local s <close> = serve { handler = function(c)
        local function all(...) return { n = select("#", ...), ... } end
        results = {
          line = c:receive(), count = c:receive(3), prefixed = c:receive(4, "ab"),
          sent = c:send("hello", 2, 3), limits = all(c:settimeout(0.01), c:gettimeout()),
          timed_out = all(c:receive(10)), name = all(c:getpeername()), own = all(c:getsockname()),
        }
        c:settimeout()
        results.rest = c:receive "*a"
        results.ended = all(c:receive())
        c:close()
        results.closed = all(c:send "x")
      end }
      local c = connect(s)
      c:send "first\r\nxyzcd12"
      eq(c:receive(2), "el")
      co.sleep(0.1)
      c:send "345"
      c:shutdown "send"
      eq(c:receive "*a", nil)
      until_true(function() return results and results.closed end)
      eq({ results.line, results.count, results.prefixed, results.sent }, { "first", "xyz", "abcd", 3 })
      eq({ results.timed_out[2], results.timed_out[3] }, { "timeout", "12" })
      eq({ results.rest, results.ended[2], results.closed[2] }, { "345", "closed", "closed" })
      eq({ results.name[1], results.name[3], results.own[2] }, { "127.0.0.1", "inet", s.port })
      eq({ results.limits[1], results.limits[2] }, { 1, 0.01 })]]
  end)

  it("say what is wrong with the arguments of a call", function()
    ok[[
      local done
      local s <close> = serve { handler = function(c)
        raises("bad argument #1 to 'Socket:receive'", c.receive, c, "x")
        raises("bad argument #1 to 'Socket:send' (string expected", c.send, c, {})
        raises("calling 'Socket:receive' on bad self", c.receive, 5)
        raises("bad argument #1 to 'Socket:setoption'", c.setoption, c, "x")
        done = true
      end }
      eq(ask(s, "x"), nil)
      until_true(function() return done end)]]
  end)

  it("serve a client that is not ours, also a slow one", function()
    ok[[
      local s <close> = serve {}
      local r = mp.subprocess.run { "/usr/bin/python3", "-c", "\
import socket, sys, time\
c = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\
for ch in 'slow line\\n':\
    c.sendall(ch.encode())\
    time.sleep(0.005)\
print(c.makefile().readline(), end='')\
", tostring(s.port), timeout = 20 }
      eq(r.stdout, "slow line\n")]]
  end)
end)
