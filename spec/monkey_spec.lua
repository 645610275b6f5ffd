local support = require "spec.support"

local http, echo
local function env()
  return { HTTP = http.url, ECHO = tostring(echo.port), no_proxy = "127.0.0.1" }
end
-- U is the HTTP server, PORT the echo server, socket is LuaSocket, patched.
local PATCHED = 'local mp = require "mpengine" local co = mp.co mp.monkey.patch_all() '
  .. 'local U, PORT, socket = os.getenv "HTTP", tonumber(os.getenv "ECHO"), require "socket" '
local function with(code)
  return support.ok(PATCHED .. code, { env = env() })
end

describe("after patch_all", function()
  setup(function() http, echo = support.server "httpd.lua", support.server "echod.lua" end)
  teardown(function() http.stop() echo.stop() end)

  it("a socket works as before", function()
    with[[
      local s = assert(socket.tcp())
      assert(s:connect("127.0.0.1", PORT))
      assert(s:send("hello\n") == 6)
      eq(s:receive(), "hello")
      s:send("abcdef\n")
      eq(s:receive(3), "abc")
      eq(s:receive("*l"), "def")
      s:send("x\nbye\n")
      eq(s:receive("*a"), "x\n")
      eq(table.pack(s:receive()).n, 3)
      s:close()
      local c = assert(socket.connect("127.0.0.1", PORT))
      c:send("again\n")
      eq(c:receive("*l"), "again")
      c:close()]]
  end)

  it("errors are LuaSocket's own", function()
    with[[
      local s = socket.tcp()
      local r, why = s:connect("127.0.0.1", 1)
      eq({ tostring(r), why }, { "nil", "connection refused" })
      s = socket.connect("127.0.0.1", PORT)
      s:send("bye\n")
      r, why = s:receive()
      eq({ tostring(r), why }, { "nil", "closed" })
      r, why = socket.connect("no-such-host.invalid", 80)
      eq(r, nil)
      assert(type(why) == "string")]]
  end)

  it("misuse is reported at the caller's line, with the call and the argument as written", function()
    with[[
      local c, u = assert(socket.connect("127.0.0.1", PORT)), assert(socket.udp())
      raises({ "script.lua:3: bad argument #1 to 'send' (string expected" }, function()
        c:send({}) end)
      raises({ "script.lua:5: bad argument #2 to 'send' (number expected" }, function()
        c:send("x", "y") end)
      raises({ "script.lua:7: bad argument #1 to 'receive' (invalid receive pattern)" }, function()
        c:receive "*z" end)
      raises({ "script.lua:9: calling 'receive' on bad self" }, function()
        c.receive(io.stdout) end)
      raises({ "script.lua:11: bad argument #1 to 'settimeout' (number expected" }, function()
        c:settimeout "soon" end)
      raises({ "script.lua:13: bad argument #1 to 'connect' (string expected" }, function()
        socket.tcp():connect() end)
      raises({ "script.lua:15: bad argument #3 to 'sendto' (string expected" }, function()
        u:sendto("x", "127.0.0.1") end)
      raises({ "script.lua:17: bad argument #1 to 'select' (table expected" }, function()
        socket.select(1) end)
      raises({ "script.lua:19: bad argument #1 to 'getaddrinfo' (string expected" }, function()
        socket.dns.getaddrinfo {} end)
      local p = io.popen "true"
      raises({ "script.lua:22: bad argument #1 to 'read' (invalid format)" }, function()
        p:read "q" end)
      p:close()
      raises({ "script.lua:25: attempt to use a closed file" }, function()
        p:read() end)
      raises({ "script.lua:27: cannot open file '/nonexistent'" }, function()
        for _ in io.lines "/nonexistent" do end end)
      raises({ "script.lua:29: bad argument #1 to 'execute' (string expected, got table)" }, function()
        os.execute {} end)
      c:close()]]
  end)

  it("a read suspends only the task", function()
    with[[
      local tasks = {}
      for i = 1, 3 do
        tasks[i] = co.spawn(function()
          local s = assert(socket.connect("127.0.0.1", PORT))
          s:send("together 3 tcp\n")
          local line = s:receive()
          s:close()
          return line
        end)
      end
      for i = 1, 3 do eq(tasks[i]:get(), "together tcp") end]]
  end)

  it("a timeout of a socket holds, and is never early", function()
    with[[
      local s = socket.connect("127.0.0.1", PORT)
      s:settimeout(0.1)
      s:send("silence\n")
      local ticks, stop = 0, false
      co.spawn(function() while not stop do ticks = ticks + 1 co.sleep(0.001) end end)
      local from = now()
      local r, why, partial = s:receive()
      stop = true
      eq({ tostring(r), why, partial }, { "nil", "timeout", "" })
      late(from, 0.1)
      assert(ticks > 1)
      s:send("still\n")
      eq(s:receive(), "still")]]
  end)

  it("large sends and receives go through", function()
    with[[
      local s = socket.connect("127.0.0.1", PORT)
      local text = ("x"):rep(2000000)
      local sender = co.spawn(function() return s:send(text .. "\n") end)
      eq(#s:receive(), 2000000)
      assert(sender:get() == 2000001)]]
  end)

  it("socket.http does three at once", function()
    with[[
      local h, tasks = require "socket.http", {}
      for i = 1, 3 do tasks[i] = co.spawn(function() return (h.request(U .. "/together/3/patched")) end) end
      for i = 1, 3 do eq(tasks[i]:get(), "together patched") end
      local body, status = h.request(U .. "/status/404")
      eq({ body, status }, { "status 404", 404 })
      eq((h.request(U .. "/redirect/2")), "hello")]]
  end)

  it("LuaSocket loaded before is patched too", function()
    support.ok([[
      local socket, h, mp = require "socket", require "socket.http", require "mpengine"
      local co, U, tasks = mp.co, os.getenv "HTTP", {}
      mp.monkey.patch_all()
      mp.monkey.patch_all()
      assert(socket.tcp)
      for i = 1, 2 do tasks[i] = co.spawn(function() return (h.request(U .. "/together/2/early")) end) end
      for i = 1, 2 do eq(tasks[i]:get(), "together early") end]], { env = env() })
  end)

  it("sockets work in the main chunk, in coroutines and in a child", function()
    with[[
      local function ask(text)
        local s = assert(socket.connect("127.0.0.1", PORT))
        s:send(text .. "\n")
        local line = s:receive()
        s:close()
        return line
      end
      eq(ask("main"), "main")
      eq(coroutine.wrap(function() return ask("wrapped") end)(), "wrapped")
      local q = mp.Queue()
      all{ P(function() q:put(ask("child")) end) }
      eq(q:get(), "child")]]
  end)

  it("without LuaSocket nothing is broken", function()
    support.ok[[
      package.preload["socket"] = function() error("module 'socket' not found", 0) end
      mp.monkey.patch_all()
      eq(mp.co.spawn(function() return 1 end):get(), 1)]]
  end)
end)

describe("after patch_all, in full #later", function()
  setup(function() http, echo = support.server "httpd.lua", support.server "echod.lua" end)
  teardown(function() http.stop() echo.stop() end)

  it("a server and its clients are tasks of one process", function()
    with[[
      local listener = assert(socket.bind("127.0.0.1", 0))
      local _, port = listener:getsockname()
      co.spawn(function()
        for _ = 1, 3 do
          local c = listener:accept()
          co.spawn(function() c:send(c:receive():upper() .. "\n") c:close() end)
        end
      end)
      local tasks = {}
      for i = 1, 3 do
        tasks[i] = co.spawn(function()
          local s = socket.connect("127.0.0.1", port)
          s:send("hello " .. i .. "\n")
          return s:receive()
        end)
      end
      for i = 1, 3 do eq(tasks[i]:get(), "HELLO " .. i) end]]
  end)

  it("udp, select, sleep and dns suspend only the task", function()
    with[[
      local ticks, stop = 0, false
      co.spawn(function() while not stop do ticks = ticks + 1 co.sleep(0.001) end end)
      local a, b = socket.udp(), socket.udp()
      a:setsockname("127.0.0.1", 0) b:setsockname("127.0.0.1", 0)
      local _, port = a:getsockname()
      local t = co.spawn(function() return a:receive() end)
      co.sleep(0.01)
      b:sendto("datagram", "127.0.0.1", port)
      eq(t:get(), "datagram")
      local before = ticks
      local from = now()
      socket.sleep(0.05)
      late(from, 0.05)
      assert(ticks > before)
      before = ticks
      local r, _, why = socket.select({ a }, nil, 0.05)
      eq({ #r, why }, { 0, "timeout" })
      assert(ticks > before)
      b:sendto("x", "127.0.0.1", port)
      eq(#socket.select({ a }, nil, 10), 1)
      eq(socket.dns.toip("127.0.0.1"), "127.0.0.1")
      stop = true]]
  end)

  it("settimeout(0) returns at once, and lets the others run", function()
    with[[
      local s = socket.connect("127.0.0.1", PORT)
      s:settimeout(0)
      local ran = false
      co.spawn(function() ran = true end)
      local r, why = s:receive()
      eq({ tostring(r), why }, { "nil", "timeout" })
      eq(ran, true)]]
  end)

  it("closing a socket wakes the task that reads it", function()
    with[[
      local s = socket.connect("127.0.0.1", PORT)
      local t = co.spawn(function() return s:receive() end)
      co.sleep(0.01)
      s:close()
      local r, why = t:get(10)
      eq({ tostring(r), why }, { "nil", "closed" })]]
  end)

  it("os.execute, io.popen and io.read suspend only the task", function()
    support.ok(PATCHED .. [[
      local ticks, stop = 0, false
      co.spawn(function() while not stop do ticks = ticks + 1 co.sleep(0.001) end end)
      local function moved(f) local before = ticks f() assert(ticks > before, "the others did not go on") end
      moved(function() eq(table.pack(os.execute("sleep 0.1; exit 3")), table.pack(nil, "exit", 3)) end)
      moved(function()
        local f = io.popen("sleep 0.1; echo one; echo two")
        eq(f:read(), "one") eq(f:read("a"), "two\n")
        eq(f:close(), true)
      end)
      eq(io.read("l"), "a line")
      eq(io.read("n"), 42)
      eq(io.read("a"), "\nrest")
      stop = true]], { env = env(), stdin = "a line\n42\nrest" })
  end)

  it("false leaves a part out", function()
    support.ok([[
      local execute, popen = os.execute, io.popen
      mp.monkey.patch_all{ os = false, io = false }
      assert(os.execute == execute and io.popen == popen)]], { env = env() })
  end)

  it("receive and send give parts on a timeout, as before", function()
    with[[
      local s = socket.connect("127.0.0.1", PORT)
      s:send("abc\n")
      s:settimeout(0.05)
      local r, why, part = s:receive(10)
      eq({ tostring(r), why, part }, { "nil", "timeout", "abc\n" })
      eq({ s:gettimeout() }, { 0.05, -1.0 })
      s:settimeout(0.02, "t")
      eq(select(2, s:receive("*l", "before ")), "timeout")
      eq(select(3, s:receive("*l", "before ")), "before ")
      s:settimeout(nil) s:settimeout(nil, "t")
      s:send("after\n")
      eq(s:receive("*l", "before "), "before after")
      s:send("abcdef", 2, 4) s:send("abcdef\n", -2)
      eq(s:receive(), "bcdf")]]
  end)

  it("a wait in a socket ends with the task", function()
    with[[
      local s = socket.connect("127.0.0.1", PORT)
      for _, f in ipairs{ s.receive, function() return socket.select({ s }, nil, 10) end } do
        local t = co.spawn(f, s)
        co.sleep(0.01)
        t:kill()
        eq(t:join(10), true)
        eq(table.pack(co.with_timeout(0.02, f, s)), table.pack(nil, "timeout"))
      end
      s:send("still\n")
      eq(s:receive(), "still")]]
  end)

  it("select takes objects with getfd, and those with input in their buffer at once", function()
    with[[
      local s = socket.connect("127.0.0.1", PORT)
      s:send("one two\n")
      eq(s:receive(4), "one ")
      local other = { getfd = function() return s:getfd() end }
      local r, w = socket.select({ s, other }, { s })
      eq({ r[1] == s, w[1] == s, r[s] }, { true, true, 1 })
      eq(s:receive(), "two")]]
  end)

  it("files of popen have the methods of files", function()
    support.ok(PATCHED .. [[
      local f = io.popen("printf '1 0x10 -2.5e1\\nline\\n\\nrest'")
      eq(io.type(f), "file")
      eq({ f:read("n", "n", "n") }, { 1, 16, -25.0 })
      eq({ f:read("L", "l", 1, "a", "a", "l") }, { "\n", "line", "\n", "rest", "" })
      eq({ f:close() }, { true, "exit", 0 })
      eq(io.type(f), "closed file")
      local sum = 0
      for a in io.popen("seq 1 1000"):lines("n") do sum = sum + a collectgarbage("step") end
      eq(sum, 500500)
      local w = io.popen("cat >/dev/null; exit 3", "w")
      eq(w:write("a", 1, ("x"):rep(300000)) == w, true)
      eq(table.pack(io.close(w)), table.pack(nil, "exit", 3))
      eq(table.pack(io.popen("kill -9 $$"):close()), table.pack(nil, "signal", 9))
      raises("mode", io.popen, "true", "rw")]], { env = env() })
  end)

  it("original gives each function that was replaced as it was", function()
    support.ok([[
      local socket = require "socket"
      local before, paths = {}, { socket = socket, os = os, io = io, ["socket.dns"] = socket.dns }
      for path, t in pairs(paths) do
        for name, f in pairs(t) do if type(f) == "function" then before[path .. "." .. name] = f end end
      end
      local classes = { file = getmetatable(io.stdin).__index, tcp = getmetatable(socket.tcp()).__index,
        udp = getmetatable(socket.udp()).__index }
      for class, t in pairs(classes) do
        for name, f in pairs(t) do if type(f) == "function" then before[class .. ":" .. name] = f end end
      end
      for name, f in pairs(before) do assert(mp.monkey.original(name) == f, name) end
      mp.monkey.patch_all()
      mp.monkey.patch_all()
      for name, f in pairs(before) do assert(mp.monkey.original(name) == f, name) end
      for _, name in ipairs { "socket.select", "socket.sleep", "socket.connect", "socket.dns.toip", "os.execute",
        "io.popen", "io.read", "io.lines", "file:read", "tcp:receive", "tcp:accept", "udp:sendto" } do
        local t = paths[name:match "^(.*)%."] or classes[name:match "^(.*):"]
        assert(t[name:match "[%w_]+$"] ~= before[name], name .. " is not replaced")
      end]])
  end)

  it("original functions work, on patched sockets too, and block the process", function()
    with[[
      local s = assert(socket.connect("127.0.0.1", PORT))
      local ran = false
      co.spawn(function() ran = true end)
      eq(select(3, mp.monkey.original "socket.select"({ s }, nil, 0.02)), "timeout")
      mp.monkey.original "socket.sleep"(0.01)
      eq({ mp.monkey.original "os.execute" "exit 3" }, { nil, "exit", 3 })
      eq(mp.monkey.original "io.popen" "echo said":read(), "said")
      eq(ran, false)
      eq(select(2, mp.monkey.original "tcp:receive"(s)), "timeout")
      s:send "x\n"
      eq(mp.monkey.original "socket.select"({ s }, nil, 10)[1], s)
      eq(s:receive(), "x")]]
  end)

  it("original loads LuaSocket when it must, and refuses other names", function()
    support.ok([[
      mp.monkey.patch_all()
      assert(debug.getinfo(mp.monkey.original "socket.select").what == "C")
      for _, name in ipairs { "socket.nothing", "nothing", "", "string.format", "socket._VERSION", "tcp:nothing",
        "socket.dns.nothing", "file:", "socket" } do
        raises({ "script.lua:6: monkey.original: unknown name '" .. name .. "'" }, function()
          mp.monkey.original(name) end)
      end
      raises("bad argument #1 to 'monkey.original' (string expected", mp.monkey.original)]])
    support.ok([[
      package.path, package.cpath = "", ""
      raises({ "monkey.original: 'socket.select' is of LuaSocket, which cannot be loaded" },
        mp.monkey.original, "socket.select")]])
  end)

  it("standard input is read in pieces by tasks, a pipe too", function()
    support.ok([[
      local r = mp.subprocess.run{ "sh", "-c", os.getenv "RUN", stdin = "one\ntwo\n3 rest" }
      eq({ r.status, r.stdout, r.stderr }, { 0, "one two 3  rest\n", "" })]], { env = { RUN = ([[
        exec %s -e '
          local first = io.read()
          local mp = require "mpengine"
          mp.monkey.patch_all()
          local t = mp.co.spawn(function() return io.read("l", "n") end)
          local two, three = t:get()
          print(first .. " " .. two .. " " .. three .. " " .. io.read("a"))']]):format(
        support.mode == "stock" and "lua5.4" or support.quote(support.command)) } })
  end)
end)
