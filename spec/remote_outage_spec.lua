-- Managers of a URL when the server or the way to it fails; passwords, users and TLS.
local support = require "spec.support"
local redis = require "spec.support.redis"

local with_server = redis.with_server

describe("a manager", function()
  it("goes on when its connections are cut and its scripts are forgotten", function()
    with_server("", [[
      local m = open()
      local d, l, q = m:dict "d", m:Lock "l", m:Queue "q"
      local t = co.spawn(function() return q:get() end)
      for i = 1, 20 do
        d[i] = i
        l:acquire()
        cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        cli("SCRIPT", "FLUSH")
        l:release()
        eq(d[i], i)
      end
      eq(t:ready(), false)
      q:put "item"
      eq(t:get(10), "item")
    ]])
  end)

  it("keeps a connection that has answered while its program computed", function()
    with_server("", [[
      local m = open()
      local d, pool = m:dict "d", m:Pool()
      pool:apply_async("math.abs", { 1 })
      co.sleep(0.1)
      local c = require("mpengine.remote.client").of(m)
      local conn = c.connections.commands
      pool:apply_async("math.abs", { 1 }) -- is sent by the call
      os.execute "sleep 0.1"
      conn.heard = conn.heard - 100 -- seconds ago
      d.x = 1
      eq({ d.x, conn.lost, c.connections.commands == conn }, { 1, nil, true })
    ]])
  end)

  it("keeps locks, items and waits over a server that is killed and has its file", function()
    with_server("--appendonly yes --appendfsync always", [[
      local m = open()
      local d, l, q = m:dict "d", m:Lock "l", m:Queue "q"
      d.x = 1
      q:put(1)
      l:acquire()
      local fence = l.fence
      local waits = co.spawn(function() return l:acquire() end)
      local item = co.spawn(function() return m:Queue "other":get() end)
      co.sleep(0.1)
      os.execute("kill -9 " .. PID)
      local again <close> = start_again("--appendonly", "yes")
      eq({ d.x, q:get(), l:locked(), waits:ready() }, { 1, 1, true, false })
      l:release()
      eq(waits:get(10), true)
      eq(l.fence > fence, true)
      m:Queue "other":put "late"
      eq(item:get(10), "late")
    ]], { timeout = 40 })
  end)

  -- With "everysec" a server replies while an fsync runs, before it writes (docs/remote.md).
  for mode, ms in pairs{ always = 20, no = 1500 } do
    it("loses nothing with appendfsync " .. mode .. " when a server is killed whose disk is slow", function()
      local dir = support.shell "mktemp -d":gsub("%s", "")
      local said = support.shell(("%s -D_GNU_SOURCE -shared -fPIC -o %s/slow.so %s/spec/support/slow_sync.c -ldl 2>&1")
        :format(os.getenv "CC" or "cc", dir, support.root))
      assert.equal("", said)
      local server = redis.start("--appendonly yes --appendfsync " .. mode, dir,
        ("env SLOW_SYNC=%d LD_PRELOAD=%s/slow.so"):format(ms, dir))
      local ok, err = pcall(support.ok, redis.head(server) .. ([[
        local m = open()
        local q, d, n = m:Queue "q", m:dict "d", 0
        local till = mp.now() + 2.2
        while mp.now() < till do
          n = n + 1
          q:put(n)
          eq(d:incr "n", n)
        end
        os.execute("kill -9 " .. PID)
        local again <close> = start_again("--appendonly", "yes")
        eq({ d.n, q:qsize() }, { n, n })
        for i = 1, n do eq(q:get(5), i) end
        again:kill()
      ]]), { timeout = 60 })
      redis.remove(server)
      if not ok then error(err, 0) end
    end)
  end

  it("says that it is disconnected when an outage is longer than its timeout", function()
    with_server("", [[
      local m = open{ timeout = 0.3 }
      local d = m:dict "d"
      d.x = 1
      os.execute("kill -9 " .. PID)
      local err = select(2, pcall(d.get, d, "x"))
      eq(err.kind, "disconnected")
      matches(err, "cannot connect to unix://")
      err = select(2, pcall(m:Lock "l".acquire, m:Lock "l"))
      eq(err.kind, "disconnected")
    ]])
  end)

  it("says that a change may have been made whose reply is lost", function()
    with_server("", [[
      local m = open{ timeout = 5 }
      local d = m:dict "d"
      d:incr "n"
      local t = co.spawn(function() return pcall(d.incr, d, "n") end)
      kill(PID, "STOP")
      co.sleep(0.1)
      os.execute("kill -9 " .. PID)
      local ok, err = t:get(10)
      eq({ ok, err.kind }, { false, "maybe_applied" })
    ]])
  end)

  it("waits for a server that is stopped for a time", function()
    with_server("", [[
      local m = open()
      local d = m:dict "d"
      d.x = 5
      kill(PID, "STOP")
      co.spawn_later(0.5, os.execute, "kill -CONT " .. PID)
      eq(d.x, 5)
    ]])
  end)

  it("is refused with a wrong password, which no message shows", function()
    with_server("--requirepass right", [[
      local address = URL:gsub("//", "//:wrong@")
      local err = select(2, pcall(mp.Manager, address))
      eq(err.kind, "refused")
      matches(err, "WRONGPASS")
      eq(tostring(err):find("wrong@", 1, true), nil)
      err = select(2, pcall(mp.Manager, URL))
      matches(err, "NOAUTH")
      local m = mp.Manager((URL:gsub("//", "//:right@")))
      m:dict "d".x = 1
      eq(m:dict "d".x, 1)
      eq(tostring(m):find("right", 1, true), nil)
    ]])
  end)

  it("needs no more than the user of its namespace may do", function()
    with_server("", [[
      local run = mp.subprocess.run
      local line = run{ COMMAND, "acl", "app", "app" }
      local words = { "redis-cli", "-s", DIR .. "/socket" }
      for word in line.stdout:gsub(">PASSWORD", ">pw"):gmatch "%S+" do words[#words + 1] = word end
      eq(run(words).stdout, "OK\n")
      local m = mp.Manager((URL:gsub("//", "//app:pw@")), { namespace = "app", lease = 2 })
      local d, l, q, s, e = m:dict "d", m:Lock "l", m:Queue "q", m:Semaphore "s", m:Event "e"
      d.x = 1
      eq({ d:incr "x", d:popitem() }, { 2, "x", 2 })
      local t = co.spawn(function() e:wait() return q:get() end)
      eq({ l:acquire(), s:acquire() }, { true, true })
      e:set()
      q:put(1)
      eq(t:get(5), 1)
      l:release()
      s:release()
      m:list("li", { 3, 1 }):sort()
      m:Cache("c", { size = "1M" }):set("k", 1, 5)
      m:Array("a", "i", 3):fill(1)
      eq(m:RateLimiter("r", { rate = 5 }):try(), true)
      eq(m:Pool():stats().workers, 0)
      local other = mp.Manager((URL:gsub("//", "//app:pw@")), { namespace = "other" })
      matches(select(2, pcall(function() return other:dict "d".x end)), "NOPERM")
    ]])
  end)

  it("speaks TLS, and verifies the server", function()
    local dir = support.shell "mktemp -d":gsub("%s", "")
    os.execute(("cd %s && openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 "
      .. "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 >/dev/null 2>&1"):format(dir))
    local port = 20000 + math.random(20000)
    local server = redis.start(("--tls-port %d --tls-cert-file %s/cert.pem --tls-key-file %s/key.pem "
      .. "--tls-ca-cert-file %s/cert.pem --tls-auth-clients no"):format(port, dir, dir, dir), dir)
    local done, err = pcall(support.ok, redis.head(server) .. ([[
      local url = "rediss://localhost:%d/1"
      matches(select(2, pcall(mp.Manager, url)), "certificate")
      matches(select(2, pcall(mp.Manager, url, { ca = "/nonexistent" })), "a file of certificates that can be read")
      local m = mp.Manager(url, { ca = DIR .. "/cert.pem", lease = 2 })
      local d = m:dict "d"
      d.big = ("x"):rep(1 << 20)
      eq(#d.big, 1 << 20)
      local l = m:Lock "l"
      l:acquire()
      local till = mp.now() + 2.5
      while mp.now() < till do end
      eq({ l:locked(), d.none }, { true })
      l:release()
    ]]):format(port))
    redis.remove(server)
    if not done then error(err, 0) end
  end)
end)
