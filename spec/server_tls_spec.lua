-- TLS of StreamServer, by LuaSec. The clients are Python, openssl and LuaSec itself.
local support = require "spec.support"

local HEAD = [[
  local co, TLS = mp.co, os.getenv "TLS"
  local files = { cert = TLS .. "cert.pem", key = TLS .. "key.pem" }
  local function with(more)
    local t = {}
    for k, v in pairs(files) do t[k] = v end
    for k, v in pairs(more or {}) do t[k] = v end
    return t
  end
  local function echo(s) for line in function() return (s:receive()) end do s:send(line:upper() .. "\n") end end
  local function serve(settings)
    settings.handler, settings.tls = settings.handler or echo, settings.tls or files
    return mp.server.StreamServer(settings):start()
  end
  local function python(s, code)
    local r = assert(mp.subprocess.run { "/usr/bin/python3", "-c", "\
import socket, ssl, sys\
port, ca = int(sys.argv[1]), sys.argv[2]\
context = ssl.create_default_context(cafile=ca)\
def connect(**more):\
    raw = socket.create_connection(('127.0.0.1', port), timeout=10)\
    return context.wrap_socket(raw, server_hostname='localhost', **more)\
" .. code, tostring(s.port), TLS .. "ca.pem", timeout = 20 })
    eq({ r.stderr, r.status }, { "", 0 })
    return r.stdout
  end
]]
local env = { TLS = support.root .. "/spec/support/tls/" }
local function ok(code, opts)
  opts = opts or {}
  opts.env = env
  return support.ok(HEAD .. code, opts)
end

describe("a StreamServer with TLS", function()
  for _, workers in ipairs { 0, 2 } do
    it(("serves clients that verify its certificate (%d workers)"):format(workers), function()
      ok(("local workers = %d "):format(workers) .. [[
        local s <close> = serve { workers = workers }
        local code = "f = connect().makefile('rw')\nfor i in range(3):\n  f.write('line %d\\n' % i); f.flush()\n"
          .. "  print(f.readline(), end='')"
        local clients = {}
        for i = 1, 4 do clients[i] = co.spawn(python, s, code) end
        for i = 1, 4 do eq(clients[i]:get(), "LINE 0\nLINE 1\nLINE 2\n") end
        until_true(function() return s:stats().open == 0 end)
        eq({ s:stats().accepted, s:stats().failed }, { 4, 0 })]])
    end)
  end

  it("carries much in both directions, and tells its end", function()
    ok[[
      local s <close> = serve { handler = function(c)
        local bytes = c:receive(5000000)
        c:send(bytes:reverse())
      end }
      eq(python(s, "s = connect()\ns.sendall(bytes(2500000) + b'x' * 2500000)\nall = b''\n"
        .. "while True:\n  piece = s.recv(1 << 20)\n  if not piece: break\n  all += piece\n"
        .. "print(len(all), all[:3], all[-1])"), "5000000 b'xxx' 0\n")]]
  end)

  it("answers openssl, from TLS 1.2 on", function()
    ok[[
      local s <close> = serve {}
      local function ask(version)
        return mp.subprocess.run { "openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile", TLS .. "ca.pem",
          version, "-connect", "127.0.0.1:" .. s.port, stdin = "hello\n", timeout = 5 }
      end
      for _, version in ipairs { "-tls1_3", "-tls1_2" } do
        local r, _, printed = ask(version)
        eq((r or printed).stdout:match "^HELLO", "HELLO")
      end
      assert(ask "-tls1_1".status ~= 0)]]
  end)

  it("gives its handler a socket with the calls of the others", function()
    ok[[
      local seen, failure
      local s <close> = serve { handler = function(c, peer)
        local good, why = pcall(function()
          local ip, port = c:getpeername()
          eq(peer, ip .. ":" .. port)
          eq(select(2, c:getsockname()), select(2, c:getsockname()))
          eq({ c:getoption "tcp-nodelay", c:setoption("keepalive", true) }, { true, 1 })
          assert(c:getfd() > 2 and tostring(c):find "^mp.TLSSocket: descriptor %d+$")
          c:settimeout(0.05)
          local r, reason, part = c:receive(10)
          eq({ tostring(r), reason, part }, { "nil", "timeout", "abc" })
          eq(c:gettimeout(), 0.05)
          eq(c:dirty(), false)
          c:send("go on\n")
          c:settimeout(nil)
          eq(c:receive(3, "<"), "<de")
          eq({ c:receive "*l", c:receive "*a" }, { "f", "rest" })
          eq(select(2, c:receive()), "closed")
          assert(c:info "protocol":find "^TLS")
          raises("bad argument #1 to 'send'", c.send, c, {})
          raises("bad self (mp.TLSSocket expected", c.send, {})
          eq({ c:close(), c:close(), tostring(c) }, { 1, 1, "mp.TLSSocket: closed" })
        end)
        seen, failure = good, why
      end }
      python(s, "s = connect()\ns.sendall(b'abc')\ns.recv(6)\ns.sendall(b'def\\nrest')\ns.unwrap()")
      until_true(function() return seen ~= nil end)
      assert(seen, failure)]]
  end)

  it("holds no client up by one that shakes hands slowly, or never", function()
    ok[[
      local socket = require "socket"
      local s <close> = serve { tls = with { timeout = 2 } }
      local silent, noise = {}, socket.connect("127.0.0.1", s.port)
      for i = 1, 20 do silent[i] = socket.connect("127.0.0.1", s.port) end
      noise:send "GET / HTTP/1.0\r\n\r\n"
      eq(python(s, "f = connect().makefile('rw')\nf.write('x\\n'); f.flush()\nprint(f.readline(), end='')"), "X\n")
      until_true(function() return s:stats().failed == 21 end)
      until_true(function() return s:stats().open == 0 end)
      silent[1]:settimeout(5)
      eq(select(2, silent[1]:receive()), "closed")
      local again = python(s, "raw = socket.create_connection(('127.0.0.1', port))\nraw.sendall(b'\\x16\\x03\\x01')\n"
        .. "raw.close()\nprint('gone')")
      eq(again, "gone\n")
      until_true(function() return s:stats().failed == 22 end)]]
  end)

  it("stops while clients shake hands", function()
    ok[[
      mp.monkey.patch_all()
      local socket = require "socket"
      local s = serve {}
      local silent = socket.connect("127.0.0.1", s.port)
      until_true(function() return s:stats().open == 1 end)
      s:stop(0.1)
      eq({ s:stats().open, (select(2, silent:receive())) }, { 0, "closed" })]]
  end)

  it("takes a context of LuaSec, and a client that LuaSec makes, patched", function()
    ok[[
      mp.monkey.patch_all()
      local socket, ssl = require "socket", require "ssl"
      local context = assert(ssl.newcontext { mode = "server", protocol = "tlsv1_2", certificate = files.cert,
        key = files.key })
      local s <close> = serve { tls = context, handler = function(c)
        c:send(c:info "protocol" .. " " .. c:receive() .. "\n")
      end }
      local function ask(text)
        local c = socket.connect("127.0.0.1", s.port)
        c = assert(ssl.wrap(c, { mode = "client", protocol = "any", verify = "peer", cafile = TLS .. "ca.pem" }))
        assert(c:dohandshake())
        c:send(text .. "\n")
        local answer = c:receive()
        c:close()
        return answer
      end
      local asked = {}
      for i = 1, 10 do asked[i] = co.spawn(ask, "n" .. i) end
      for i = 1, 10 do eq(asked[i]:get(), "TLSv1.2 n" .. i) end]]
  end)

  it("takes the texts of the files, too", function()
    ok[[
      local function text(name) local f <close> = io.open(name) return f:read "a" end
      local s <close> = serve { workers = 1, tls = { cert = text(files.cert), key = text(files.key) } }
      eq(python(s, "f = connect().makefile('rw')\nf.write('x\\n'); f.flush()\nprint(f.readline(), end='')"), "X\n")
      raises("StreamServer: field 'tls': ", mp.server.StreamServer,
        { handler = print, tls = { cert = text(files.cert), key = text(TLS .. "other_key.pem") } })]]
  end)

  it("leaves no descriptor and little memory behind", function()
    ok[[
      mp.monkey.patch_all()
      local socket, ssl = require "socket", require "ssl"
      local s <close> = serve {}
      local client = ssl.newcontext { mode = "client", protocol = "any" }
      local function ask()
        local c = ssl.wrap(socket.connect("127.0.0.1", s.port), client)
        assert(c:dohandshake())
        c:send("x\n")
        assert(c:receive() == "X")
        c:close()
      end
      local function settle()
        collectgarbage() collectgarbage()
        until_true(function() return s:stats().open == 0 end)
      end
      for _ = 1, 20 do ask() end
      settle()
      local before, memory = descriptors(), collectgarbage "count"
      for _ = 1, 200 do ask() end
      settle()
      assert(descriptors() <= before, before)
      assert(collectgarbage "count" < memory + 100)]]
  end)

  it("says what is wrong with its certificate when it is made", function()
    ok[[
      local S = mp.server.StreamServer
      local function wrong(message, tls, workers)
        raises({ "script.lua:", "StreamServer: " .. message }, S, { handler = print, tls = tls, workers = workers })
      end
      wrong("field 'tls' must be a table with the fields cert and key, or a context of LuaSec, got", "x")
      wrong("field 'tls' must be a table with the fields cert and key, or a context of LuaSec, got", io.stdout)
      wrong("field 'tls.cert' must be the name of a file in PEM form, or its text, got no value", { key = files.key })
      wrong("field 'tls.key' must be the name of a file in PEM form, or its text, got no value", { cert = files.cert })
      wrong("field 'tls.cert': /no/such.pem: No such file or directory", with { cert = "/no/such.pem" })
      wrong("field 'tls.key': /no/such.pem: No such file or directory", with { key = "/no/such.pem" })
      wrong("field 'tls.key': Is a directory", with { key = "/" })
      wrong("field 'tls': error loading", with { cert = files.key })
      wrong("field 'tls': error loading", with { key = files.cert })
      wrong("field 'tls': ", with { key = TLS .. "other_key.pem" })
      wrong("unknown field 'tls.ca'", with { ca = "x" })
      wrong("field 'tls.timeout' must be a number of seconds", with { timeout = -1 })
      local context = require "ssl".newcontext { mode = "server", protocol = "any" }
      wrong("a context of LuaSec cannot be sent to workers", context, 1)]]
  end)

  it("says what is missing without LuaSec, and only then", function()
    ok[[
      package.preload.ssl = function() error "there is none" end
      raises("StreamServer: field 'tls' needs LuaSec (Debian: lua-sec), which cannot be loaded",
        mp.server.StreamServer, { handler = print, tls = files })
      local s <close> = mp.server.StreamServer { handler = print }]]
  end)
end)
