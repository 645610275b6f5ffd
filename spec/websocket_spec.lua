-- WebSockets of http.serve. Their clients are python3-websockets, and raw frames over LuaSocket.
local support = require "spec.support"

-- serve(f) starts a server that hands each connection to f; open(s) is a raw client after the
-- handshake; frame(opcode, payload) is one as a client sends it; next_frame(c) reads one.
local HEAD = [[
  local co, http, socket = mp.co, mp.http, nil
  mp.monkey.patch_all()
  socket = require "socket"
  local function echo(ws)
    for message, kind in function() return ws:recv() end do ws:send(message, kind) end
  end
  local function serve(f, settings)
    settings = settings or {}
    settings.port = 0
    settings.handler = settings.handler or function(req) return req:websocket(f) end
    return http.serve(settings):start()
  end
  local function connect(s)
    local c = assert(socket.connect("127.0.0.1", s.port))
    c:settimeout(10)
    return c
  end
  local HANDSHAKE = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    .. "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
  local function read_head(c)
    local lines = {}
    for line in function() return (c:receive()) end do
      if line == "" then break end
      lines[#lines + 1] = line
    end
    return table.concat(lines, "\n")
  end
  local function open(s, more)
    local c = connect(s)
    c:send(HANDSHAKE .. (more or ""))
    local head = read_head(c)
    assert(head:find "^HTTP/1.1 101", head)
    return c, head
  end
  local function frame(opcode, payload, opts)
    opts = opts or {}
    local mask, n = "\1\2\3\4", #payload
    local first = (opts.more and 0 or 0x80) | (opts.rsv or 0) | opcode
    local bit = opts.plain and 0 or 0x80
    local head = n < 126 and string.pack(">BB", first, bit | n)
      or n < 65536 and string.pack(">BBH", first, bit | 126, n)
      or string.pack(">BBI8", first, bit | 127, n)
    if opts.plain then return head .. payload end
    local i = 0
    return head .. mask .. payload:gsub(".", function(b)
      i = i + 1
      return string.char(b:byte() ~ mask:byte((i - 1) % 4 + 1))
    end)
  end
  local function next_frame(c)
    local head, why = c:receive(2)
    if not head then return nil, why end
    local first, n = head:byte(1, 2)
    if n == 126 then
      n = string.unpack(">H", c:receive(2))
    elseif n == 127 then
      n = string.unpack(">I8", c:receive(8))
    end
    return first & 15, n > 0 and c:receive(n) or ""
  end
  local function next_close(c)
    local opcode, payload = next_frame(c)
    eq(opcode, 8)
    return #payload >= 2 and string.unpack(">H", payload) or 0
  end
  local function python(s, code)
    local file = os.tmpname()
    local head = "import asyncio, sys, websockets\nU = 'ws://127.0.0.1:' + sys.argv[1] + '/'\n"
    io.open(file, "w"):write(head .. code):close()
    local r = mp.subprocess.run { "/usr/bin/python3", file, tostring(s.port), timeout = 30 }
    os.remove(file)
    eq(r.stderr, "")
    return r.stdout
  end
]]
local function ok(code, opts) return support.ok(HEAD .. code, opts) end
local function run(code, opts) return support.run(HEAD .. code, opts) end

describe("Request:websocket", function()
  it("hands the connection over: messages of any size and both kinds go there and back", function()
    ok[[
      local s <close> = serve(echo)
      eq(python(s, [=[
async def main():
    async with websockets.connect(U, max_size=None) as ws:
        for m in ['', 'text \u00e9\u4e2d', 'x' * 125, 'x' * 126, 'x' * 65535, 'x' * 65536, 'x' * 3000000]:
            await ws.send(m)
            assert await ws.recv() == m
        for m in [b'', b'\xff\xfe', b'y' * 70000]:
            await ws.send(m)
            assert await ws.recv() == m
        await ws.send(['in ', 'parts'])
        assert await ws.recv() == 'in parts'
        for i in range(1000): await ws.send(str(i))
        for i in range(1000): assert await ws.recv() == str(i)
    print('well', ws.close_code)
asyncio.run(main())
]=]), "well 1000\n")
      until_true(function() return s:stats().open == 0 end)
      eq(s:stats().failed, 0)]]
  end)

  it("answers the handshake as RFC 6455 has it, and reads what came right behind it", function()
    ok[[
      local s <close> = serve(echo)
      local c, head = open(s, frame(1, "early"))
      assert(head:lower():find("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=", 1, true), head)
      assert(head:lower():find("upgrade: websocket", 1, true))
      assert(head:lower():find("connection: upgrade", 1, true))
      eq({ next_frame(c) }, { 1, "early" })]]
  end)

  it("answers 426 or 400 to a request that asks for none", function()
    ok[[
      local s <close> = serve(echo)
      eq(http.get("http://127.0.0.1:" .. s.port).status, 426)
      for wrong, status in pairs { ["Version: 13"] = 426, ["Upgrade: websocket"] = 426, ["dGhl"] = 400 } do
        local c = connect(s)
        c:send((HANDSHAKE:gsub(wrong, { ["Version: 13"] = "Version: 12", ["Upgrade: websocket"] = "Upgrade: other",
          ["dGhl"] = "dGh" }, 1)))
        eq(tonumber(read_head(c):match "^HTTP/1.1 (%d+)"), status)
      end]]
  end)

  it("gives the request beside the connection, and other requests go on", function()
    ok[[
      local s <close> = serve(nil, { handler = function(req)
        if req.path ~= "/ws" then return 200, nil, "page" end
        return req:websocket(function(ws) ws:send(req.method .. req.query.name .. req.headers.host) end)
      end })
      local c = connect(s)
      c:send((HANDSHAKE:gsub("GET /", "GET /ws?name=n")))
      read_head(c)
      eq({ next_frame(c) }, { 1, "GETnx" })
      eq(http.get("http://127.0.0.1:" .. s.port).body, "page")
      eq(next_close(c), 1000)]]
  end)

  it("raises for what is no function", function()
    local r = run[[
      local s <close> = serve(5)
      eq(http.get("http://127.0.0.1:" .. s.port).status, 500)]]
    assert.truthy(r.stderr:find("bad argument #1 to 'Request:websocket' (function expected, got number)", 1, true),
      r.stderr)
  end)
end)

describe("the end of a WebSocket", function()
  it("is a close frame with 1000 when the function returns, and both sides close", function()
    ok[[
      local s <close> = serve(function(ws) ws:send "bye" end)
      local c = open(s)
      eq({ next_frame(c) }, { 1, "bye" })
      eq(next_close(c), 1000)
      c:send(frame(8, "\x03\xe8"))
      eq(next_frame(c), nil)
      until_true(function() return s:stats().open == 0 end)]]
  end)

  it("is 1011 when the function raises, which is reported", function()
    local r = run[[
      local s <close> = serve(function() error "what went wrong" end)
      local c = open(s)
      eq(next_close(c), 1011)
      c:close()
      until_true(function() return s:stats().failed == 1 end)]]
    assert.truthy(r.stderr:find("what went wrong", 1, true), r.stderr)
    assert.equal(0, r.status)
  end)

  it("has the code and the reason that the function gives", function()
    ok[[
      local after
      local s <close> = serve(function(ws)
        eq(ws:close(4001, "enough"), true)
        after = { ws:send "more" }
      end)
      local c = open(s)
      eq({ next_frame(c) }, { 8, string.pack(">H", 4001) .. "enough" })
      c:send(frame(8, string.pack(">H", 4001)))
      eq(next_frame(c), nil)
      eq({ after[2], after[3] }, { "closed", 4001 })]]
  end)

  it("by the peer is nil, 'closed' and its code", function()
    ok[[
      local got
      local s <close> = serve(function(ws) got = table.pack(ws:recv()) end)
      for code, sent in pairs { [1000] = "\x03\xe8", [4711] = string.pack(">H", 4711) .. "why", [1005] = "" } do
        got = nil
        local c = open(s)
        c:send(frame(8, sent))
        local opcode = next_frame(c)
        eq(opcode, 8)
        eq(next_frame(c), nil)
        until_true(function() return got end)
        eq({ got[1], got[2], got[3] }, { nil, "closed", code })
      end
      got = nil
      open(s):close()
      until_true(function() return got end)
      eq({ got[2], got[3] }, { "closed", 1006 })]]
  end)

  it("comes at stop: functions end, those that do not are cancelled with 1001", function()
    ok[[
      local s = serve(function(ws)
        local wish = ws:recv()
        if wish == "short" then co.sleep(0.2) ws:send "done" else ws:recv() end
      end)
      local short, long = open(s), open(s)
      short:send(frame(1, "short"))
      long:send(frame(1, "long"))
      co.sleep(0.05)
      local from = now()
      local stopping = co.spawn(s.stop, s, 0.6)
      eq({ next_frame(short) }, { 1, "done" })
      eq(next_close(short), 1000)
      short:close()
      eq(next_close(long), 1001)
      long:close()
      stopping:get()
      assert(now() - from < 5)]]
  end)

  it("leaves nothing open", function()
    ok[[
      local s <close> = serve(echo)
      local function round()
        local c = open(s)
        c:send(frame(1, "x"))
        eq({ next_frame(c) }, { 1, "x" })
        c:send(frame(8, "\x03\xe8"))
        next_frame(c)
        c:close()
      end
      round()
      until_true(function() return s:stats().open == 0 end)
      local before = descriptors()
      for _ = 1, 300 do round() end
      until_true(function() return s:stats().open == 0 end)
      assert(descriptors() <= before + 1)]]
  end)
end)

describe("ws:recv", function()
  it("times out, and the message comes with the next call", function()
    ok[[
      local first, second, kind
      local s <close> = serve(function(ws)
        first = table.pack(ws:recv(0.05))
        ws:send "now"
        second, kind = ws:recv(10)
      end)
      local c = open(s)
      c:send(frame(2, "half and half"):sub(1, 8)) -- a part of a frame
      eq({ next_frame(c) }, { 1, "now" })
      eq({ first[1], first[2] }, { nil, "timeout" })
      c:send(frame(2, "half and half"):sub(9))
      next_close(c)
      eq({ second, kind }, { "half and half", "binary" })]]
  end)

  it("puts parts together, with control frames between them, and answers pings", function()
    ok[[
      local s <close> = serve(echo)
      local c = open(s)
      c:send(frame(1, "one ", { more = true }) .. frame(9, "ping!") .. frame(0, "two ", { more = true })
        .. frame(10, "pong") .. frame(0, "three"))
      eq({ next_frame(c) }, { 10, "ping!" })
      eq({ next_frame(c) }, { 1, "one two three" })
      for byte in frame(1, "byte by byte"):gmatch "." do c:send(byte) end
      eq({ next_frame(c) }, { 1, "byte by byte" })]]
  end)

  local damaged = {
    ["a message over max_body"] = { [[frame(1, ("x"):rep(1001))]], 1009 },
    ["parts over max_body"] = { [[frame(1, ("x"):rep(600), { more = true }) .. frame(0, ("x"):rep(600))]], 1009 },
    ["the head of a huge message"] = { [[string.pack(">BBI8", 0x82, 0xff, 1 << 40) .. "\1\2\3\4abc"]], 1009 },
    ["text that is no UTF-8"] = { [[frame(1, "a\xff")]], 1007 },
    ["text that is no UTF-8 in its parts"] = { [[frame(1, "\xc3", { more = true }) .. frame(0, "a")]], 1007 },
    ["text that ends within a character"] = { [[frame(1, "\xe4\xb8")]], 1007 },
    ["a surrogate"] = { [[frame(1, "\xed\xa0\x80")]], 1007 },
    ["a frame without a mask"] = { [[frame(1, "x", { plain = true })]], 1002 },
    ["a reserved bit"] = { [[frame(1, "x", { rsv = 0x40 })]], 1002 },
    ["an unknown opcode"] = { [[frame(3, "x")]], 1002 },
    ["a ping in parts"] = { [[frame(9, "x", { more = true })]], 1002 },
    ["a ping of 126 bytes"] = { [[frame(9, ("x"):rep(126))]], 1002 },
    ["a part without a first one"] = { [[frame(0, "x")]], 1002 },
    ["a message within another"] = { [[frame(1, "x", { more = true }) .. frame(1, "y")]], 1002 },
    ["a close with one byte"] = { [[frame(8, "x")]], 1002 },
    ["a close with a code that is not sent"] = { [[frame(8, "\x03\xed")]], 1002 },
  }
  for name, case in pairs(damaged) do
    it(("ends the connection with %d for %s"):format(case[2], name), function()
      ok([[
        local got
        local s <close> = serve(function(ws) got = table.pack(ws:recv()) end, { max_body = 1000 })
        local c = open(s)
        c:send(]] .. case[1] .. [[)
        eq(next_close(c), ]] .. case[2] .. [[)
        eq(next_frame(c), nil)
        until_true(function() return got end)
        eq({ got[1], got[2], got[3] }, { nil, "closed", ]] .. case[2] .. [[ })
        c:close()
        until_true(function() return s:stats().open == 0 end)]])
    end)
  end
end)

describe("ws:send", function()
  it("waits until a slow peer reads, and mixes no messages of several tasks", function()
    ok[[
      local sent = 0
      local s <close> = serve(function(ws)
        local tasks = {}
        for i = 1, 4 do
          tasks[i] = co.spawn(function()
            for _ = 1, 20 do
              eq(ws:send(tostring(i):rep(100000)), true)
              sent = sent + 1
            end
          end)
        end
        co.joinall(tasks)
      end)
      local c = open(s)
      local before
      repeat
        before = sent
        co.sleep(0.1)
      until before == sent
      assert(sent < 80, sent)
      local counts = {}
      for _ = 1, 80 do
        local opcode, payload = next_frame(c)
        eq({ opcode, #payload }, { 1, 100000 })
        eq(payload, payload:sub(1, 1):rep(100000))
        counts[payload:sub(1, 1)] = (counts[payload:sub(1, 1)] or 0) + 1
      end
      eq(counts, { ["1"] = 20, ["2"] = 20, ["3"] = 20, ["4"] = 20 })
      eq(next_close(c), 1000)]]
  end)

  it("goes on with the message of a task that was killed", function()
    ok[[
      local killed
      local s <close> = serve(function(ws)
        local task = co.spawn(function() ws:send(("a"):rep(20000000)) end)
        co.sleep(0.05)
        task:kill()
        pcall(task.get, task)
        killed = true
        ws:send "next"
      end)
      local c = open(s)
      until_true(function() return killed end)
      local opcode, payload = next_frame(c)
      eq({ opcode, #payload }, { 1, 20000000 })
      eq({ next_frame(c) }, { 1, "next" })]]
  end)

  it("says what is wrong with its arguments", function()
    ok[[
      local done
      local s <close> = serve(function(ws)
        raises("bad argument #1 to 'WebSocket:send' (a text must be UTF-8; send other bytes as \"binary\")",
          ws.send, ws, "\xff")
        raises("bad argument #1 to 'WebSocket:send' (string expected, got nil)", ws.send, ws, nil)
        raises("bad argument #2 to 'WebSocket:send' (invalid option 'x')", ws.send, ws, "", "x")
        raises("bad argument #1 to 'WebSocket:close'", ws.close, ws, 1005)
        raises("bad argument #2 to 'WebSocket:close'", ws.close, ws, 1000, ("x"):rep(123))
        raises("bad argument #1 to 'WebSocket:recv'", ws.recv, ws, -1)
        eq(ws:send("\xff", "binary"), true)
        done = true
      end)
      local c = open(s)
      eq({ next_frame(c) }, { 2, "\xff" })
      until_true(function() return done end)]]
  end)
end)

describe("WebSockets", function()
  it("are served by workers, and over TLS", function()
    local dir = support.shell("mktemp -d"):gsub("\n", "")
    finally(function() os.execute("rm -r " .. dir) end)
    support.shell(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext " ..
      "subjectAltName=DNS:localhost -keyout %s/key -out %s/cert 2>/dev/null"):format(dir, dir))
    ok([[
      local dir = os.getenv "DIR"
      local s <close> = serve(echo, { workers = 2, tls = { cert = dir .. "/cert", key = dir .. "/key" } })
      eq(python(s, [=[
import ssl
context = ssl.create_default_context(cafile=']=] .. dir .. [=[/cert')
async def one(i):
    async with websockets.connect(U.replace('ws://127.0.0.1', 'wss://localhost'), ssl=context, max_size=None) as ws:
        for m in ['x%d' % i, 'y' * 300000]:
            await ws.send(m)
            assert await ws.recv() == m
async def main():
    await asyncio.gather(*[one(i) for i in range(20)])
    print('well')
asyncio.run(main())
]=]), "well\n")]], { env = { DIR = dir } })
  end)
end)
