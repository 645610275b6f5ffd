-- Looking up host names, by http and by the sockets of monkey. Names with "slow" in them are not
-- answered before something writes to a FIFO; most are never answered.
local support = require "spec.support"

local dir, preload, server

setup(function()
  dir = os.tmpname() .. ".d"
  preload = dir .. "/slow_names.so"
  support.shell(("mkdir -m 700 '%s' && mkfifo '%s/gate'"):format(dir, dir))
  local compile = ("%s -D_GNU_SOURCE -shared -fPIC -o '%s' '%s/spec/support/slow_names.c' -ldl 2>&1")
    :format(os.getenv "CC" or "cc", preload, support.root)
  local said = support.shell(compile)
  assert(support.shell("ls '" .. preload .. "'") ~= "", said)
  server = support.server "httpd.lua"
end)

teardown(function()
  server.stop()
  support.shell("rm -rf '" .. dir .. "'")
end)

-- U is the address of the server by a name, PORT its port, GATE the FIFO; answer() lets slow names answer.
local function with(code, env)
  local before = os.getenv "LD_PRELOAD" -- of a sanitizer, which must come first
  local all = { LD_PRELOAD = (before and before .. ":" or "") .. preload, SLOW_NAMES = dir .. "/gate",
    PORT = server.port, no_proxy = "*" }
  for k, v in pairs(env or {}) do all[k] = v end
  return support.ok([[
    local PORT, GATE, co, http = os.getenv "PORT", os.getenv "SLOW_NAMES", mp.co, mp.http
    local U = "http://fast.test:" .. PORT
    local function answer() local gate = assert(io.open(GATE, "w")) gate:close() end ]] .. code, { env = all })
end

describe("a name look-up without an answer", function()
  it("is abandoned at once by a request that times out, is cancelled or killed", function()
    with[[
      local url = "http://slow%d.test:" .. PORT .. "/hello"
      eq(table.pack(http.get(url:format(1), { timeout = 0.05 })), table.pack(nil, "timeout"))
      eq(table.pack(http.get(url:format(1), { connect_timeout = 0.05 })), table.pack(nil, "timeout"))
      eq(table.pack(co.with_timeout(0.05, http.get, url:format(2))), table.pack(nil, "timeout"))
      local t = co.spawn(http.get, url:format(3))
      co.sleep(0)
      t:kill()
      eq(t:join(10), true)
      eq(http.get(U .. "/hello").body, "hello")]]
  end)

  it("is abandoned by a request that was redirected there, or uses a proxy", function()
    with([[
      local to = "http://slow.test:" .. PORT .. "/hello"
      eq(table.pack(http.get(U .. "/to/302?" .. to, { timeout = 0.2 })), table.pack(nil, "timeout"))
      eq(table.pack(http.get("http://elsewhere.invalid/", { proxy = to, timeout = 0.2 })),
        table.pack(nil, "timeout"))]], { no_proxy = "fast.test" })
  end)

  it("counts in the timeout of connect, of both kinds", function()
    with[[
      mp.monkey.patch_all()
      local socket = require "socket"
      for _, mode in ipairs{ "b", "t" } do
        local s = socket.tcp()
        s:settimeout(0.05, mode)
        eq({ s:connect("slow.test", PORT) }, { nil, "timeout" })
        s:close()
      end
      local u = socket.udp()
      u:settimeout(0.05)
      eq({ u:setpeername("slow.test", PORT) }, { nil, "timeout" })]]
  end)

  it("delays neither a hundred others, nor answered look-ups, nor offload", function()
    with[[
      mp.monkey.patch_all()
      local socket, tasks = require "socket", {}
      for i = 1, 100 do tasks[i] = co.spawn(socket.connect, "slow" .. i .. ".test", PORT) end
      co.sleep(0)
      assert(socket.connect("fast.test", PORT))
      eq(http.get(U .. "/hello").body, "hello")
      eq(co.offload(function() return 42 end), 42)
      for _, t in ipairs(tasks) do t:kill() end]]
  end)

  it("is started once, however many tasks ask", function()
    with[[
      mp.monkey.patch_all()
      local socket, tasks = require "socket", {}
      for i = 1, 300 do tasks[i] = co.spawn(socket.dns.getaddrinfo, "slow.test") end
      co.sleep(0)
      eq(#socket.dns.getaddrinfo "fast.test", 1)
      answer()
      for i = 1, 300 do eq(tasks[i]:get()[1].addr, "127.0.0.1") end]]
  end)

  it("gives its later answer to calls that may not wait, one of them", function()
    with[[
      mp.monkey.patch_all()
      local socket = require "socket"
      local s = socket.tcp()
      s:settimeout(0)
      eq({ s:connect("slow.test", PORT) }, { nil, "timeout" })
      answer()
      until_true(function()
        local ok, why = s:connect("slow.test", PORT)
        return ok or why == "already connected"
      end)
      s:settimeout(5)
      assert(s:send "GET /hello HTTP/1.0\r\n\r\n")
      assert(s:receive("*a"):find "hello")]]
  end)

  it("does not disturb a child, which looks up names itself", function()
    with[[
      local t = co.spawn(http.get, "http://slow1.test/")
      http.get("http://slow2.test/", { timeout = 0.01 })
      local function child() assert(http.get(U .. "/hello").body == "hello") end
      for _, method in ipairs{ "fork", "spawn" } do
        local p = mp.get_context(method).Process(function(url)
          assert(require("mpengine").http.get(url).body == "hello")
        end, U .. "/hello")
        p:start()
        all{ p }
      end
      t:kill()]]
  end)

  it("counts as a pending event", function()
    with[[
      local t = co.spawn(http.get, "http://slow.test:" .. PORT .. "/hello")
      mp.Process(function(gate) io.open(gate, "w"):close() end, GATE):start()
      eq(t:get().body, "hello")]]
  end)
end)

describe("a name", function()
  it("that does not exist is reported with its host and the cause", function()
    with[[
      local r, why = http.get("http://user:secret@no-such-host.invalid:81/x")
      eq(r, nil)
      for _, part in ipairs{ "http://no-such-host.invalid:81/x: ", "no-such-host.invalid", "not" } do
        assert(why:find(part, 1, true), why)
      end
      assert(not why:find "secret", why)]]
  end)

  it("cannot be looked up without a thread: it raises, or is the message", function()
    with([[
      mp.monkey.patch_all()
      local socket = require "socket"
      raises({ "thread", "Resource temporarily unavailable" }, socket.connect, "fast.test", PORT)
      raises({ "thread" }, socket.dns.toip, "fast.test")
      eq(http.get("http://127.0.0.1:" .. PORT .. "/hello").body, "hello")
      local r, why = http.get(U)
      eq(r, nil)
      assert(why:find("thread", 1, true) and why:find(U, 1, true), why)]], { NO_THREADS = "1" })
  end)

  it("is answered by socket.dns as LuaSocket answers", function()
    with[[
      local socket = require "socket"
      local function ask()
        local dns, list = socket.dns, {}
        for _, name in ipairs{ "toip", "tohostname", "getaddrinfo", "getnameinfo" } do
          for _, host in ipairs{ "localhost", "127.0.0.1", "no-such-host.invalid" } do
            list[#list + 1] = table.pack(dns[name](host))
          end
        end
        return list
      end
      local before = ask()
      mp.monkey.patch_all()
      eq(ask(), before)
      local s, u = socket.tcp(), socket.udp()
      assert(s:bind("localhost", 0))
      eq((s:getsockname()), "127.0.0.1")
      assert(u:setsockname("localhost", 0))
      eq((u:getsockname()), "127.0.0.1")]]
  end)
end)
