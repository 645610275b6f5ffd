-- Files, sockets and pipes as arguments, items and results. What is checked of each is that both sides have
-- it afterwards, as after dup.
local support = require "spec.support"

-- echo(s) answers one line; pair() -> the two ends of a connection.
local HEAD = [[
  local socket = require "socket"
  local function listen()
    local l = assert(socket.bind("127.0.0.1", 0))
    return l, select(2, l:getsockname())
  end
  local function pair(class)
    local l, port = listen()
    local c = assert(socket.connect("127.0.0.1", port))
    local s = assert(l:accept())
    l:close()
    c:settimeout(10)
    return c, s
  end
  local function echo(s)
    s:send("echo " .. s:receive() .. "\n")
    s:close()
  end
  local function ask(c, text)
    c:send(text .. "\n")
    local answer = c:receive()
    local rest, why = c:receive()
    eq(rest, nil) eq(why, "closed") -- no process has it open any more
    return answer
  end
]]
local function ok(code, opts) return support.ok(HEAD .. code, opts) end

for _, method in ipairs { "fork", "spawn", "forkserver" } do
  local CONTEXT = ("local ctx = mp.get_context '%s'\n"):format(method)
  local function with(code) return ok(CONTEXT .. code) end

  describe("with " .. method, function()
    it("a connection is an argument", function()
      with [[
        local c, s = pair()
        local p = ctx.Process(echo, s)
        p:start()
        s:close()
        eq(ask(c, "hello"), "echo hello")
        all { p }]]
    end)

    it("a connection is an item of a queue and of a pipe, also inside tables, and one value stays one", function()
      with [[
        local q, back = mp.Queue(), mp.Queue()
        local a, b = mp.Pipe()
        local p = ctx.Process(function(q, pipe, back)
          echo(q:get())
          local t = pipe:recv()
          back:put(t.list[1] == t.again and #t.list)
          echo(t.again)
        end, q, b, back)
        p:start()
        local c, s = pair()
        q:put(s)
        s:close()
        eq(ask(c, "one"), "echo one")
        c, s = pair()
        a:send { list = { s, 2 }, again = s }
        s:close()
        eq(back:get(), 2)
        eq(ask(c, "two"), "echo two")
        all { p }]]
    end)

    it("a listening socket is shared: both processes accept", function()
      with [[
        local l, port = listen()
        local function accept_one(l, answer)
          local s = assert(l:accept())
          s:send(answer .. " " .. s:receive() .. "\n")
          s:close()
        end
        local p = ctx.Process(accept_one, l, "child")
        p:start()
        local c = socket.connect("127.0.0.1", port)
        eq(ask(c, "x"), "child x")
        all { p }
        c = socket.connect("127.0.0.1", port)
        mp.co.spawn(function() accept_one(l, "parent") end)
        c:send "y\n"
        accept_one(l, "parent")
        eq(c:receive(), "parent y")]]
    end)

    it("datagrams and local sockets cross, and timeouts with them", function()
      with [[
        local u = socket.udp()
        u:setsockname("127.0.0.1", 0)
        local _, port = u:getsockname()
        u:settimeout(7)
        local unix = require "socket.unix"
        local stream = type(unix) == "table" and unix.stream or unix
        local path = os.tmpname()
        os.remove(path)
        local l = stream()
        assert(l:bind(path)) assert(l:listen())
        local me = stream()
        assert(me:connect(path))
        local other = l:accept()
        local back = mp.Queue()
        local p = ctx.Process(function(u, s, back)
          local block = u.gettimeout and u:gettimeout() or 7
          local data, host, from = u:receivefrom()
          u:sendto(data .. "!", host, from)
          back:put(block)
          echo(s)
        end, u, other, back)
        p:start()
        other:close()
        local mine = socket.udp()
        mine:settimeout(10)
        mine:sendto("ping", "127.0.0.1", port)
        eq(mine:receive(), "ping!")
        eq(back:get(), 7.0)
        eq(ask(me, "local"), "echo local")
        os.remove(path)
        all { p }]]
    end)

    it("the sockets of servers cross", function()
      with [[
        local q = mp.Queue()
        local p = ctx.Process(function(q) for _ = 1, 2 do echo(q:get()) end end, q)
        p:start()
        local s <close> = mp.server.StreamServer { handler = function(c) q:put(c) end }
        s:start()
        mp.monkey.patch_all()
        for _, text in ipairs { "a", "b" } do
          local c = assert(socket.connect("127.0.0.1", s.port))
          eq(ask(c, text), "echo " .. text)
        end
        all { p }]]
    end)

    it("a file keeps its mode, and its position is that of both", function()
      with [[
        local name = os.tmpname()
        local f <close> = io.open(name, "w+")
        f:write("one\ntwo\n")
        f:seek("set")
        eq(f:read(), "one")
        local a <close> = io.open(name, "a")
        local r <close> = io.open(name, "r")
        local back = mp.Queue()
        local p = ctx.Process(function(back, f, a, r)
          back:put { f:read(), f:read(), io.type(f) }
          a:write("three\n")
          back:put { a:read() == nil, select(3, r:write("x")) }
          f:close() a:close() r:close()
          back:put(io.type(f))
        end, back, f, a, r)
        p:start()
        eq(back:get(), { "two", nil, "file" })
        eq(back:get(), { true, 9 })
        eq(back:get(), "closed file")
        eq(f:read(), "three")
        eq(f:read(), nil)
        os.remove(name)
        all { p }]]
    end)

    it("a file of popen crosses, patched or not", function()
      for _, patch in ipairs { "", "mp.monkey.patch_all()\n" } do
        with(patch .. ("local PATCH = %q\n"):format(patch) .. [[
          local back = mp.Queue()
          local f = io.popen "echo one; sleep 0.1; echo two; read answer"
          local w = io.popen("cat; echo end", "w")
          local p = ctx.Process(function(back, f, w)
            load("local mp = ... " .. PATCH)(mp)
            back:put { f:read(), f:read(), f:read() }
            w:write "from the child\n"
            eq(f:close(), true) eq(w:close(), true)
          end, back, f, w)
          p:start()
          eq(back:get(), { "one", "two" })
          all { p }
          eq(w:close(), true)]])
      end
    end)

    it("a program's pipes and its object cross; only its starter waits for it", function()
      with [[
        local prog = assert(mp.subprocess.Popen { "cat", stdin = "pipe", stdout = "pipe" })
        local back, received = mp.Queue(), mp.Event()
        local p = ctx.Process(function(prog, pipe, back, received)
          prog:write "hello\n"
          back:put(prog:read())
          raises("only the process that started", prog.wait, prog)
          raises("only the process that started", prog.kill, prog)
          eq(prog.status, nil)
          prog:close_stdin()
          pipe:close()
          back:put(prog)
          received:wait()
        end, prog, prog.stdin, back, received)
        p:start()
        prog.stdin:close()
        eq(back:get(), "hello")
        local same = back:get()
        received:set()
        eq(same.pid, prog.pid)
        eq(same:wait(10), 0)
        eq(prog.status, 0)
        raises("closed", same.write, same, "x")
        all { p }]]
    end)

    it("a pool has them as arguments of its initializer, tasks and results", function()
      with [[
        local l, port = listen()
        local name = os.tmpname()
        local pool <close> = ctx.Pool { processes = 2, initializer = function(l) LISTENER = l end, initargs = { l } }
        local r = pool:apply_async(function() local s = LISTENER:accept() s:send "from a worker\n" s:close() end)
        local c = socket.connect("127.0.0.1", port)
        c:settimeout(10)
        eq(c:receive(), "from a worker")
        r:get()
        local connections, answers = {}, {}
        for i = 1, 8 do
          local c, s = pair()
          connections[i] = c
          answers[i] = pool:apply_async(echo, { s })
          s:close()
        end
        for i, c in ipairs(connections) do
          eq(ask(c, "call " .. i), "echo call " .. i)
          answers[i]:get()
        end
        local sockets = {}
        for i = 1, 6 do connections[i], sockets[i] = pair() end
        for i = 1, 6 do connections[i]:send(i .. "\n") end
        pool:map(echo, sockets)
        for i = 1, 6 do sockets[i]:close() eq(ask(connections[i], ""), "echo " .. i) end
        local f = pool:apply(function(name)
          local f = io.open(name, "w+")
          f:write "made by a worker"
          f:seek "set"
          return f
        end, { name })
        eq(f:read "a", "made by a worker")
        os.remove(name)]]
    end)
  end)
end

describe("a descriptor on its way", function()
  it("arrives closed when its sender has died", function()
    ok[[
      local q = mp.Queue()
      local p = P(function()
        local c, s = pair()
        q:put { c, io.tmpfile(), mp.subprocess.Popen { "true", stdout = "pipe" }.stdout, ready = s }
        kill(0)
      end)
      p:join()
      local t = q:get()
      eq({ t[1]:receive() }, { nil, "closed", "" })
      eq(select(2, t.ready:send "x"), "closed")
      eq(io.type(t[2]), "closed file")
      raises("closed", t[3].read, t[3])]]
  end)

  it("is waited for by a sender that ends in good order", function()
    ok[[
      local q = mp.Queue()
      for i = 1, 5 do
        local p = P(function()
          local c, s = pair()
          q:put(s)
          q:put(c)
        end)
        local s, c = q:get(), q:get()
        p:join()
        c:send "x\n"
        eq(s:receive(), "x")
      end
      local p = P(function() mp.Queue():put(io.stdout) q:put(io.stdout) end) -- never received
      p:join()
      eq(p.exitcode, 0)
      eq(io.type(q:get()), "closed file")]]
  end)

  it("arrives closed as a socket of a server, and a listening one", function()
    ok[[
      local q = mp.Queue()
      local p = P(function()
        local s = mp.server.StreamServer { handler = function(c)
          q:put { (listen()), c }
          kill(0)
        end }
        s:start()
        q:put(s.port)
        mp.co.sleep(100)
      end)
      local c = socket.connect("127.0.0.1", q:get())
      p:join()
      local t = q:get()
      eq(c:receive(), nil)
      eq({ t[1]:accept() }, { nil, "closed" })
      eq({ t[2]:receive() }, { nil, "closed", "" })]]
  end)

  it("is closed when it is never received", function()
    ok[[
      local function sent(with)
        local c, s = pair()
        with(s)
        s:close()
        eq({ c:receive() }, { nil, "closed", "" })
      end
      sent(function(s) -- the queue is collected
        local function put() mp.Queue():put(s) end
        put()
        collectgarbage() collectgarbage()
        mp.Event()
      end)
      local full = mp.Queue(1)
      full:put(1)
      sent(function(s) eq({ full:put(s, 0) }, { nil, "full" }) end)
      sent(function(s) eq({ full:put(s, 0.01) }, { nil, "full" }) end)
      full:close()
      sent(function(s) eq({ full:put(s) }, { nil, "closed" }) end)
      local a, b = mp.Pipe()
      b:close()
      sent(function(s) eq({ a:send(s) }, { nil, "closed" }) end)
      sent(function(s) raises("cannot send a coroutine", full.put, full, { s, {}, coroutine.create(print) }) end)
      sent(function(s) raises("start", function()
        local p = mp.get_context "spawn".Process(print, s)
        mp.set_executable "/nowhere/mpengine"
        p:start()
      end) end)
      local q = mp.Queue()
      sent(function(s) -- its taker dies
        q:put(s)
        local p = P(function() mp.codec.decode = nil q:get() kill(0) end)
        p:join()
      end)]]
  end)

  it("is answered for by a sender that computes", function()
    ok[[
      local q, go = mp.Queue(), mp.RawValue("i", 0)
      local c, s = pair()
      local p = P(function()
        q:put(s)
        s:close()
        while go.value == 0 do end
      end)
      s:close()
      local got = q:get()
      c:send "x\n"
      eq(got:receive(), "x")
      go.value = 1
      all { p }]]
  end)

  it("is in a dict or list as long as it is stored", function()
    ok[[
      local d, l = mp.Dict(), mp.List()
      local c, s = pair()
      d.conn, l[1] = s, s
      s:close()
      all { P(function() d.conn:send "one\n" l[1]:send "two\n" end) }
      eq(c:receive(), "one") eq(c:receive(), "two")
      d.conn = 1
      l:pop(1)
      mp.Event()
      collectgarbage()
      eq({ c:receive() }, { nil, "closed", "" })]]
  end)

  it("costs no descriptor afterwards", function()
    ok[[
      local q, back = mp.Queue(4), mp.Queue()
      local p = P(function()
        for i = 1, 10000 do
          q:get():close()
          if i % 5000 == 100 then back:put(descriptors()) end
        end
      end)
      local c, s = pair()
      q:put(s)
      local before = descriptors()
      for i = 2, 10000 do q:put(s) end
      p:join()
      assert(math.abs(descriptors() - before) <= 4, descriptors() .. " and before " .. before)
      local first, second = back:get(), back:get()
      assert(math.abs(first - second) <= 2, first .. " and then " .. second)]]
  end)

  it("stays the next item when the receiver has none left", function()
    ok[[
      local q, back = mp.Queue(), mp.Queue()
      local a, b = mp.Pipe()
      local p = P(function(b)
        local full = {}
        local f
        repeat
          f = io.open "/dev/null"
          full[#full + 1] = f
        until not f
        for _ = 1, 3 do raises("Too many open files", q.get, q) end
        raises("Too many open files", b.recv, b)
        eq(q:qsize(), 3) eq(b:poll(), true) eq(mp.wait({ b }, 0), { b })
        while #full > 2 do table.remove(full):close() end
        local t = q:get()
        eq(q:get(), "after it")
        echo(t[1])
        echo(t[2])
        echo(q:get())
        echo(b:recv())
      end, b)
      local connections, items = {}, {}
      for i = 1, 4 do connections[i], items[i] = pair() end
      q:put { items[1], items[2] } q:put "after it" q:put(items[3])
      a:send(items[4])
      for i = 1, 4 do items[i]:close() end
      for i = 1, 4 do eq(ask(connections[i], "c" .. i), "echo c" .. i) end
      all { p }]]
  end)
end)

describe("what cannot be sent", function()
  it("is closed where it cannot be made, and the error says why", function()
    ok[[
      local q = mp.Queue()
      local c, s = pair()
      local p = mp.get_context "spawn".Process(function(q)
        package.path, package.cpath = "", ""
        raises("module 'socket' not found", q.get, q)
      end, q)
      p:start()
      q:put(s)
      s:close()
      eq({ c:receive() }, { nil, "closed", "" })
      all { p }]]
  end)

  it("is a closed socket or file, or input that was received already; the error names the path", function()
    ok[[
      local q = mp.Queue()
      local c, s = pair()
      c:send "two\nlines\n"
      eq(s:receive(), "two")
      raises({ "item.conn", "not read yet" }, q.put, q, { conn = s })
      eq(s:receive(), "lines")
      q:put(s)
      s:close()
      raises({ "item[2]", "closed socket" }, q.put, q, { 1, s })
      local f = io.tmpfile()
      f:close()
      raises({ "put: item", "closed file" }, q.put, q, f)
      raises({ "closed socket" }, q.put, q, socket.tcp())
      local r = io.popen "printf 'a\\nb\\n'"
      eq(r:read(), "a")
      raises({ "read ahead" }, q.put, q, r)
      eq(q:qsize(), 1)
      mp.monkey.patch_all()
      r = io.popen "printf 'a\\nb\\n'"
      eq(r:read(), "a")
      raises({ "item[1]", "file", "not read yet" }, q.put, q, { r })
      c, s = pair()
      c:send "two\nlines\n"
      eq(s:receive(), "two")
      raises({ "not read yet" }, q.put, q, s)
      s:close()
      raises({ "start", "args[1]", "closed socket" }, P, print, s)]]
  end)

  it("is any of them by mp.codec.encode, or to another program", function()
    ok[[
      local c, s = pair()
      raises("cannot send a tcp{client}", mp.codec.encode, c)
      raises("cannot send a FILE*", mp.codec.encode, io.stdout)
      raises("cannot send a FILE*", mp.co.offload, function() end, io.stdout)]]
  end)
end)
