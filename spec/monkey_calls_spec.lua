-- The calls of LuaSocket that wait, after patch_all: their results are LuaSocket's.
local support = require "spec.support"

local HEAD = [[
  local co = mp.co mp.monkey.patch_all()
  local socket = require "socket"
  local function listen(backlog)
    local l = assert(socket.bind("127.0.0.1", 0, backlog))
    return l, (select(2, l:getsockname()))
  end
]]
local function ok(code, opts) return support.ok(HEAD .. code, opts) end

-- Prints the number of the results and what each is. Run by stock Lua, and patched.
local BOTH = [[
  local is_ours = io.open("/proc/self/comm"):read() == "mpengine"
  if is_ours then require("mpengine").monkey.patch_all() end
  local socket = require "socket"
  local function show(name, ...)
    local t = table.pack(...)
    for i = 1, t.n do
      local v = t[i]
      t[i] = type(v) == "userdata" and tostring(v):match "^[^:]*" or type(v) == "table" and "a table" or tostring(v)
    end
    print(name, t.n, table.concat(t, " | "))
  end
]]

describe("a patched call has LuaSocket's results:", function()
  it("accept and connect", function()
    support.as_stock(BOTH .. [[
      local l, c, s = socket.tcp(), socket.tcp(), nil
      show("bind", l:bind("127.0.0.1", 0))
      show("listen", l:listen(5))
      local _, port = l:getsockname()
      l:settimeout(0) show("accept", l:accept())
      l:settimeout(0.02) show("accept late", l:accept())
      l:settimeout(0.01, "t") show("accept late in all", l:accept())
      l:settimeout(nil, "t")
      show("connect", c:connect("127.0.0.1", port))
      show("accept", (function(...) s = ... return ... end)(l:accept()))
      show("names", c:getpeername() == s:getsockname(), l:getfd() > 0)
      show("refused", socket.tcp():connect("127.0.0.1", 1))
      show("refused", socket.tcp6():connect("::1", 1))
      show("not found", socket.tcp():connect("no.such.invalid", 1))
      show("v4 to v6", socket.tcp4():connect("::1", 1))
      show("no port", pcall(socket.tcp().connect, socket.tcp()) == false)
      show("bind", socket.tcp():bind("1.2.3.4", 1)) show("bind", socket.tcp():bind("*", 0))
      show("bind", socket.tcp():bind("localhost", 0)) show("bind", socket.tcp():bind("no.such.invalid", 0))
      show("by name", socket.tcp():connect("localhost", port))
      show("by number", socket.tcp():connect("127.0.0.1", tostring(port)))
      l:close()
      show("closed accept", l:accept()) show("closed connect", c:close(), c:connect("127.0.0.1", port))
      local later = socket.tcp()
      later:settimeout(0)
      local again = socket.bind("127.0.0.1", 0)
      show("at once", later:connect("127.0.0.1", (select(2, again:getsockname()))))
      show("writable", #select(2, socket.select(nil, { later }, 5)))
      show("then", later:connect("127.0.0.1", (select(2, again:getsockname()))))
      show("and then", later:connect("127.0.0.1", (select(2, again:getsockname()))))]])
  end)

  it("sendto, receivefrom, send and receive of datagrams", function()
    support.as_stock(BOTH .. [[
      local u, v = socket.udp(), socket.udp()
      show("setsockname", u:setsockname("127.0.0.1", 0))
      local _, port = u:getsockname()
      u:settimeout(0) show("receive", u:receive()) show("receivefrom", u:receivefrom())
      u:settimeout(0.02) show("receive late", u:receive()) show("receivefrom late", u:receivefrom())
      show("sendto", v:sendto("data", "127.0.0.1", port))
      show("receivefrom", (function(bytes, ip, from) return bytes, ip, from == select(2, v:getsockname()) end)(
        u:receivefrom()))
      show("sendto a name", v:sendto("data", "no.such.invalid", port))
      show("sendto no port", pcall(v.sendto, v, "data", "127.0.0.1") == false)
      show("setpeername", v:setpeername("127.0.0.1", port))
      show("send", v:send("12345")) show("receive in part", u:receive(3)) show("receive", u:receive())
      show("empty", v:send("")) show("empty", u:receive())
      show("sendto, connected", pcall(v.sendto, v, "x", "127.0.0.1", port) == false)
      show("setpeername", v:setpeername("*")) show("setpeername", v:setpeername("no.such.invalid", 1))
      v:settimeout(0.05)
      v:setpeername("127.0.0.1", 1) v:send("x")
      show("nothing is there", v:receive())
      v:close()
      show("closed", v:send("x")) show("closed", u:close(), u:receive())]])
  end)

  it("select, in the order of the descriptors", function()
    support.as_stock(BOTH .. [[
      local l = socket.bind("127.0.0.1", 0)
      local all, others = {}, {}
      for i = 1, 5 do
        all[i] = socket.connect("127.0.0.1", (select(2, l:getsockname())))
        others[i] = l:accept()
      end
      local index = {}
      for i, s in ipairs(all) do index[s] = "all" .. i end
      local function list(t)
        local names = {}
        for i, s in ipairs(t) do
          names[i] = index[s] or tostring(s)
          assert(t[s] == i)
        end
        return table.concat(names, " ")
      end
      local function sel(name, ...)
        local r, w, why = socket.select(...)
        show(name, list(r), list(w), why)
      end
      sel("none", { l, all[1] }, nil, 0)
      sel("none late", { l, all[1] }, {}, 0.02)
      sel("nothing", nil, nil, 0.01)
      sel("written", nil, { all[3], all[1], all[2] })
      for _, i in ipairs { 4, 2, 5 } do others[i]:send("abc") end
      sel("read", { all[5], all[4], all[2], all[1] }, { all[3], all[1] }, 1)
      assert(all[5]:receive(1) == "a" and all[4]:receive(1) == "a")
      sel("in a buffer first", { all[2], all[5], all[1], all[4] }, { all[1] })
      sel("a hole ends it", { all[2], nil, all[4] }, nil, 0)
      sel("by a metatable", setmetatable({}, { __index = function(_, i) return i < 3 and all[i] or nil end }), nil, 0)
      all[1]:close()
      sel("closed", { all[1] }, { all[1] }, 0)
      sel("no descriptor", { { getfd = function() return -1 end }, {}, { getfd = function() return "x" end } }, {}, 0)
      sel("as text", {}, {}, "0")
      for _, args in ipairs { { 5 }, { {}, "x" }, { {}, {}, "x" }, { { true } } } do
        show("wrong", (pcall(socket.select, table.unpack(args))))
      end]])
  end)
end)

describe("a patched call", function()
  it("waits for a connection, a datagram and room, while the others run", function()
    ok[[
      local l, port = listen()
      local u = socket.udp()
      u:setsockname("127.0.0.1", 0)
      local accepted, got = co.spawn(l.accept, l), co.spawn(u.receivefrom, u)
      local l2, port2 = listen()
      local selected = co.spawn(socket.select, { l2 })
      co.sleep(0.02)
      eq({ accepted:ready(), got:ready(), selected:ready() }, { false, false, false })
      local c = assert(socket.connect("127.0.0.1", port))
      eq(accepted:get(10):getpeername(), "127.0.0.1")
      socket.connect("127.0.0.1", port2)
      eq(selected:get(10)[1], l2)
      assert(socket.udp():sendto("x", u:getsockname()) == 1)
      eq({ got:get(10) }, { "x", (select(2, got:get())), (select(3, got:get())) })
      c:settimeout(0.05)
      local sent = 0
      repeat
        local n, why, part = c:send(("x"):rep(1 << 20))
        sent = sent + (n or part)
      until not n
      local server = accepted:get()
      local receiver = co.spawn(server.receive, server, sent)
      eq(#select(2, socket.select(nil, { c }, 10)), 1)
      eq(#receiver:get(10), sent)]]
  end)

  it("keeps its timeout, with the socket usable after it", function()
    ok[[
      local l, port = listen(0)
      local first = { socket.connect("127.0.0.1", port) }
      local why, c
      for _ = 1, 5 do -- once its queue is full the system answers no more
        local from = now()
        c = socket.tcp()
        c:settimeout(0.1)
        why = select(2, c:connect("127.0.0.1", port))
        if why then late(from, 0.1) end
        if why then break end
        first[#first + 1] = c
      end
      eq(why, "timeout")
      for _ = 1, #first do l:accept():send("hello\n") end
      c:settimeout(10)
      assert(c:connect("127.0.0.1", port) == 1)
      l:accept():send("finally\n")
      eq(c:receive(), "finally")
      l:settimeout(0.05)
      local from = now()
      eq({ l:accept() }, { nil, "timeout" })
      late(from, 0.05)]]
  end)

  it("ends with its task, and when its socket is closed", function()
    ok[[
      local l, port = listen()
      local u = socket.udp()
      u:setsockname("127.0.0.1", 0)
      for _, call in ipairs { function() return l:accept() end, function() return u:receivefrom() end,
        function() return socket.select({ l, u }) end } do
        eq(table.pack(co.with_timeout(0.02, call)), table.pack(nil, "timeout"))
        local t = co.spawn(call)
        co.sleep(0)
        t:kill()
        eq(t:join(10), true)
      end
      local accepted, got = co.spawn(l.accept, l), co.spawn(u.receive, u)
      co.sleep(0.01)
      l:close() u:close()
      eq({ accepted:get(10) }, { nil, "closed" })
      eq({ got:get(10) }, { "" }) -- as stock LuaSocket on a closed one]]
  end)

  it("that fails at once, or looks, lets the others run", function()
    ok([[
      local l, port = listen()
      local c = socket.connect("127.0.0.1", port)
      local files = {}
      for f in function() return (io.open "/dev/null") end do files[#files + 1] = f end
      local turns = 0
      local other = co.spawn(function() while true do turns = turns + 1 co.sleep(0) end end)
      for _ = 1, 1000 do
        local s, why = l:accept()
        eq({ s, why }, { nil, "Too many open files" })
      end
      assert(turns > 10, turns)
      for _, f in ipairs(files) do f:close() end
      local peer, u = assert(l:accept()), socket.udp()
      u:setsockname("127.0.0.1", 0)
      u:settimeout(0) l:settimeout(0)
      for _, look in ipairs { function() return u:receive() end, function() return l:accept() end,
        function() return socket.select({ c }, nil, 0) end } do
        turns = 0
        for _ = 1, 100 do look() end
        assert(turns > 5, turns)
      end
      peer:close()
      other:kill()]], { before = "ulimit -n 60" })
  end)

  it("takes no descriptor but its own, however many wait", function()
    ok([[
      local sockets, waiting, number = {}, {}, 0
      for i = 1, 80 do
        local u = assert(socket.udp())
        assert(u:setsockname("127.0.0.1", 0))
        sockets[i], waiting[i] = u, co.spawn(u.receive, u)
      end
      local all = co.spawn(socket.select, sockets)
      co.sleep(0.02)
      eq(all:ready(), false)
      local sender = socket.udp()
      for i = 1, 80 do sender:sendto("x" .. i, sockets[i]:getsockname()) end
      for i = 1, 80 do eq(waiting[i]:get(10), "x" .. i) number = number + 1 end
      eq(number, 80)
      sender:sendto("last", sockets[80]:getsockname())
      eq(all:get(10)[1], sockets[80])]], { before = "ulimit -n 110" })
  end)

  it("makes no garbage but its results", function()
    ok[[
      local l, port = listen()
      local c = socket.connect("127.0.0.1", port)
      local u, v = socket.udp(), socket.udp()
      u:setsockname("127.0.0.1", 0)
      local ip, to = u:getsockname()
      l:accept():send("x")
      l:settimeout(0) u:settimeout(0)
      local readers, writers = { c }, { c }
      local function grows(most, f)
        for _ = 1, 10 do f() end
        collectgarbage() collectgarbage "stop"
        local before = collectgarbage "count"
        for _ = 1, 500 do f() end
        local each = (collectgarbage "count" - before) * 1024 / 500
        collectgarbage "restart"
        assert(each <= most, each)
      end
      grows(1, function() l:accept() end)
      grows(1, function() u:receivefrom() end)
      grows(1, function() v:sendto("x", ip, to) u:receive() end)
      grows(800, function() socket.select(readers, writers) end)]]
  end)

  it("in select sees the objects that it was called with, whatever becomes of the list", function()
    ok[[
      local l, port = listen()
      local a, b = socket.connect("127.0.0.1", port), socket.connect("127.0.0.1", port)
      local other_a, other_b = l:accept(), l:accept()
      local list = { a, b }
      local t = co.spawn(socket.select, list)
      co.sleep(0)
      table.remove(list, 1)
      list[2] = l
      other_b:send("x")
      local r = t:get(10)
      eq({ #r, r[1] == b, r[b] }, { 1, true, 1 })
      eq(b:receive(1), "x")]]
  end)

  it("counts the bytes that calls have taken", function()
    ok[[
      local l, port = listen()
      local c = socket.connect("127.0.0.1", port)
      local s = l:accept()
      c:send("one\ntwo\nthree")
      eq({ s:receive(), s:receive(2) }, { "one", "tw" })
      for _ = 1, 3 do eq({ (s:getstats()) }, { 6.0 }) end
      eq(select(2, c:getstats()), 13.0)
      s:setstats(0, 0)
      eq({ s:receive(), (s:getstats()) }, { "o", 2.0 })]]
  end)

  it("of another class, or of no socket, says so", function()
    ok[[
      local l, u = listen(), socket.udp()
      raises("calling 'accept' on bad self (tcp{", l.accept, u)
      raises("calling 'receivefrom' on bad self", u.receivefrom, l)
      raises("calling 'sendto' on bad self", u.sendto, {}, "x", "127.0.0.1", 1)
      raises("bad argument #1 to 'sendto' (string expected", u.sendto, u, {}, "127.0.0.1", 1)
      raises("bad argument #2 to 'sendto' (string expected", u.sendto, u, "x")
      raises("bad argument #1 to 'select' (table expected", socket.select, 1)
      raises("bad argument #2 to 'select' (table expected", socket.select, nil, 1)
      raises("bad argument #3 to 'select' (number expected", socket.select, nil, nil, {})
      raises("on bad self", l.accept)]]
  end)
end)
