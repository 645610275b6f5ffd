-- Messages between programs: mp.Listener and mp.Client.
local support = require "spec.support"

local HEAD = [==[
local co, KEY = mp.co, { authkey = "the key" }
local socket = require "socket"
-- A connection, from both sides.
local function connected(l)
  local t = co.spawn(mp.Client, l.address, KEY)
  local c = assert(l:accept(5))
  return c, assert(t:get())
end
-- A TCP connection that says nothing, or what is no answer.
local function stranger(l, bytes)
  local s = assert(socket.connect("127.0.0.1", (l.address:match "%d+$")))
  if bytes then s:send(bytes) end
  return s
end
]==]

local function ok(code, opts) return support.ok(HEAD .. code, opts) end

describe("a link", function()
  for _, place in ipairs{ "127.0.0.1:0", "localhost:0", "[::1]:0", "path" } do
    it("carries values both ways over " .. place, function()
      ok(([[
        local place = %q
        if place == "path" then place = os.tmpname() os.remove(place) end
        local listening, l = pcall(mp.Listener, place, KEY)
        if not listening and place:find "::1" then return end -- no IPv6 here
        local a, b = connected(l)
        local cyclic = { 1, 2.5, "x", { y = true } }
        cyclic.self = cyclic
        eq(a:send(cyclic), true)
        local got = b:recv()
        eq({ got[1], got[2], got[3], got[4].y, got.self == got }, { 1, 2.5, "x", true, true })
        eq({ b:send(nil), b:send_bytes "bytes\0", b:send(7) }, { true, true, true })
        eq({ n = select("#", a:recv()) }, { n = 1 })
        eq({ a:recv_bytes(1), a:recv() }, { "bytes\0", 7 })
        l:close()
        if place:find "^/" then eq(io.open(place), nil) end
        b:send "after the listener's end"
        eq(a:recv(), "after the listener's end")]]):format(place))
    end)
  end

  it("connects programs that were started apart", function()
    ok[[
      local l = mp.Listener("127.0.0.1:0", KEY)
      local code = ([=[
        local c = assert(require("mpengine").Client(%q, { authkey = "the key", timeout = 10 }))
        for i = 1, 3 do c:send(c:recv() * 2) end]=]):format(l.address)
      local p = mp.subprocess.Popen{ "/proc/self/exe", "-e", code }
      local c = l:accept(10)
      for i = 1, 3 do c:send(i) eq(c:recv(5), i * 2) end
      eq({ c:recv(5) }, { nil, "closed" })
      eq(p:wait(5), 0)]]
  end)

  it("is refused to a client with another key, and the next one is accepted", function()
    ok[[
      local l = mp.Listener("127.0.0.1:0", KEY)
      local wrong = co.spawn(mp.Client, l.address, { authkey = "another key" })
      local right = co.spawn(function() wrong:join() return mp.Client(l.address, KEY) end)
      local c = l:accept(5)
      eq({ wrong:get() }, { nil, "authentication failed" })
      right:get():send "here"
      eq(c:recv(5), "here")]]
  end)

  it("is refused to a client by what only claims to have the key", function()
    ok[[
      mp.monkey.patch_all()
      local function served(bytes, timeout)
        local listener = assert(socket.bind("127.0.0.1", 0))
        local t = co.spawn(mp.Client, "127.0.0.1:" .. select(2, listener:getsockname()),
          { authkey = "the key", timeout = timeout })
        co.sleep(0)
        local s = listener:accept()
        if bytes then s:send(bytes) end
        if not timeout then s:receive(64) s:send("+" .. ("x"):rep(32)) end
        return { t:get() }
      end
      eq(served("HTTP/1.1 400 Bad Request" .. ("\r\n"):rep(40), 5), { nil, "authentication failed" })
      eq(served("mpengine link 1\n" .. ("r"):rep(32)), { nil, "authentication failed" })
      eq(served(nil, 0.1), { nil, "timeout" })
      eq(served("mpengine li", 0.1), { nil, "timeout" })]]
  end)

  it("drops what sends garbage, half, or nothing, and accepts others meanwhile", function()
    ok[[
      local l = mp.Listener("127.0.0.1:0", KEY)
      local silent, half, early = stranger(l), stranger(l, "half an answer"), stranger(l)
      early:close()
      local garbage = stranger(l, ("garbage"):rep(1000))
      local from, clients = now(), {}
      for i = 1, 5 do clients[i] = co.spawn(mp.Client, l.address, KEY) end
      for _ = 1, 5 do l:accept(5):send "in" end
      for i = 1, 5 do eq(clients[i]:get():recv(5), "in") end
      assert(now() - from < 5, "the silent ones kept the others waiting")
      garbage:settimeout(5)
      local _, why = garbage:receive "*a"
      assert(why ~= "timeout")
      eq({ l:accept(0.05) }, { nil, "timeout" })]]
  end)

  it("is authenticated for many clients at once, by several tasks in accept", function()
    ok([[
      local l = mp.Listener("127.0.0.1:0", KEY)
      local silent, clients, servers = {}, {}, {}
      for i = 1, 20 do silent[i] = stranger(l) end
      for i = 1, 300 do
        clients[i] = co.spawn(function()
          local c = assert(mp.Client(l.address, KEY))
          c:send(i)
          return c:recv()
        end)
      end
      for i = 1, 3 do
        servers[i] = co.spawn(function()
          while true do
            local c <close> = l:accept()
            if not c then return end
            c:send(-c:recv())
          end
        end)
      end
      for i = 1, 300 do eq(clients[i]:get(), -i) end
      l:close()
      for i = 1, 3 do eq(servers[i]:join(5), true) end]], { timeout = 60 })
  end)

  it("takes no functions, shared objects or modules", function()
    ok[[
      local l = mp.Listener("127.0.0.1:0", KEY)
      local a, b = connected(l)
      local function refused(words, v) raises({ "Connection:send", "value.x", words }, a.send, a, { x = v }) end
      refused("a function", function() end) refused("a function", string.format) refused("a function", mp.sleep)
      refused("shared object", mp.Queue()) refused("shared object", mp.Lock())
      refused("module", string) refused("module", mp) refused("globals", _G)
      raises({ "cannot send a coroutine" }, a.send, a, coroutine.create(print))
      -- A program that sends them all the same.
      local core = require "mpengine.core"
      local q, encode = mp.Queue(), core.encode_outside
      local kept = { q, string.format, string, _G, function() return 1 end }
      for i = 1, #kept do
        core.encode_outside = function() return mp.codec.encode(kept[i]) end
        a:send "x"
        core.encode_outside = encode
        local v, why = b:recv(5)
        eq(v, nil) assert(why:find("cannot decode", 1, true), why)
      end
      core.encode_outside = function() return "\xff damaged" end
      a:send "x"
      core.encode_outside = encode
      assert(select(2, b:recv(5)):find "cannot decode")
      a:send "still there"
      eq(b:recv(5), "still there")]]
  end)

  it("takes no size beyond the limit, and half a message as the end", function()
    ok[[
      local core = require "mpengine.core"
      local l = mp.Listener("127.0.0.1:0", KEY)
      for _, bytes in ipairs{ "\xff\xff\xff\xff", "\0\0\0\x09half", "\0" } do
        local a, b = connected(l)
        local write, fd = core.fd_write, nil
        core.fd_write = function(number, ...) fd = number return write(number, ...) end
        a:send "first"
        core.fd_write = write
        write(fd, bytes)
        if bytes ~= "\xff\xff\xff\xff" then a:close() end
        eq(b:recv(5), "first")
        eq({ b:recv(5) }, { nil, "closed" })
      end]]
  end)

  it("keeps what had come of a message when a recv ends early", function()
    ok[[
      local l = mp.Listener("127.0.0.1:0", KEY)
      local a, b = connected(l)
      eq({ b:recv(0), b:recv(0.02) }, { nil, nil, "timeout" })
      local large = ("large"):rep(2000000)
      local t = co.spawn(a.send, a, large)
      local tries, got = 0, nil
      repeat
        got = co.with_timeout(0.0005, b.recv, b)
        tries = tries + 1
      until got
      assert(got == large)
      eq({ t:get() }, { true })
      local stuck = co.spawn(a.send, a, large)
      co.sleep(0.01)
      stuck:kill() stuck:join()
      local next = co.spawn(a.send, a, "next")
      assert(b:recv(5) == large)
      eq(b:recv(5), "next")]]
  end)

  it("suspends only the task, and takes each call as one unit", function()
    ok[[
      local l = mp.Listener("127.0.0.1:0", KEY)
      local a, b = connected(l)
      local count, sum = 200, 0
      for i = 1, 4 do
        co.spawn(function() for n = 1, count / 4 do a:send(tostring(i):rep(50000)) end end)
      end
      local readers = {}
      for i = 1, 3 do
        readers[i] = co.spawn(function()
          while true do
            local s = b:recv(1)
            if not s then return end
            assert(s == s:sub(1, 1):rep(50000))
            sum = sum + 1
            if sum == count then a:close() end
          end
        end)
      end
      for i = 1, 3 do readers[i]:get() end
      eq(sum, count)]]
  end)

  it("is waited for with other objects, and polled", function()
    ok[[
      local l = mp.Listener("127.0.0.1:0", KEY)
      local a, b = connected(l)
      local q = mp.Queue()
      eq({ b:poll(), b:poll(0.02), mp.wait({ b, q }, 0.02) }, { false, false, {} })
      co.spawn(function() co.sleep(0.02) a:send "x" end)
      eq(mp.wait{ q, b }, { b })
      eq({ b:poll(), b:recv(), b:poll() }, { true, "x", false })
      local t = co.spawn(b.poll, b, 5)
      co.sleep(0)
      a:close()
      eq({ t:get(), b:poll(), mp.wait{ b } }, { true, true, { b } })
      eq({ b:recv() }, { nil, "closed" })
      eq({ b:send(("x"):rep(100)) == nil or b:send "x" == nil or b:send "x" == nil }, { true })]]
  end)

  it("ends the calls of other tasks when it is closed", function()
    ok[[
      local l = mp.Listener("127.0.0.1:0", KEY)
      local a, b = connected(l)
      local waits = { co.spawn(a.recv, a), co.spawn(l.accept, l), co.spawn(b.send, b, ("x"):rep(20000000)) }
      co.sleep(0.01)
      a:close() a:close() l:close() l:close()
      for i = 1, 3 do eq({ waits[i]:get(5) }, { nil, "closed" }) end
      raises({ "Connection:recv", "closed" }, a.recv, a)
      raises({ "Connection:send", "closed" }, a.send, a, 1)
      raises({ "Listener:accept", "closed" }, l.accept, l)
      eq({ (mp.Client(l.address, KEY)) }, {})]]
  end)

  it("refuses wrong arguments, and says why it cannot listen or connect", function()
    ok[[
      raises({ "Listener", "address" }, mp.Listener, 5, KEY)
      raises({ "Listener", "host:port" }, mp.Listener, "", KEY)
      raises({ "Client", "65535" }, mp.Client, "x:70000", KEY)
      raises({ "Listener", "authkey" }, mp.Listener, "127.0.0.1:0")
      raises({ "Client", "'authkey' must be a string" }, mp.Client, "127.0.0.1:1", {})
      raises({ "Client", "empty" }, mp.Client, "127.0.0.1:1", { authkey = "" })
      raises({ "Client", "'key'" }, mp.Client, "127.0.0.1:1", { authkey = "x", key = 1 })
      raises({ "Client", "'timeout'" }, mp.Client, "127.0.0.1:1", { authkey = "x", timeout = -1 })
      local l = mp.Listener("127.0.0.1:0", KEY)
      raises({ "cannot listen on " .. l.address, "in use" }, mp.Listener, l.address, KEY)
      raises({ "cannot listen", "too long" }, mp.Listener, "/" .. ("x"):rep(200), KEY)
      raises({ "Listener:accept", "timeout" }, l.accept, l, -1)
      l:close()
      eq({ mp.Client(l.address, KEY) }, { nil, "Connection refused" })
      eq({ mp.Client("/no/such/path", KEY) }, { nil, "No such file or directory" })
      local _, why = mp.Client("no-such-host.invalid:1", KEY)
      assert(type(why) == "string")]]
  end)

  it("replaces the socket file of a listener that was killed, and of no other", function()
    ok[[
      local path = os.tmpname()
      raises({ "in use" }, mp.Listener, path, KEY)
      os.remove(path)
      local p = P(function() local l = mp.Listener(path, KEY) l:accept() end)
      until_true(function() return mp.subprocess.run{ "test", "-S", path }.status == 0 end)
      until_true(function() local c = mp.Client(path, { authkey = "x", timeout = 1 }) return true end)
      raises({ "in use" }, mp.Listener, path, KEY)
      p:kill() p:join()
      local l <close> = mp.Listener(path, KEY)
      local a, b = connected(l)
      a:send(1)
      eq(b:recv(5), 1)]]
  end)

  it("leaves no descriptor behind", function()
    ok[[
      local l = mp.Listener("127.0.0.1:0", KEY)
      local open = descriptors
      local function round()
        local a <close>, b = connected(l)
        b:close()
        local wrong = co.spawn(mp.Client, l.address, { authkey = "x" })
        local s = stranger(l, ("x"):rep(100))
        l:accept(0.01)
        wrong:join() s:close()
        local t = co.spawn(mp.Client, l.address, KEY)
        co.sleep(0)
        t:kill() t:join()
        connected(l) -- dropped
      end
      round() l:accept(0.01) collectgarbage() collectgarbage()
      local before = open()
      for _ = 1, 20 do round() end
      until_true(function() -- the last ones end when the close of their clients has arrived
        l:accept(0.05) collectgarbage() collectgarbage()
        return open() <= before
      end)]]
  end)
end)
