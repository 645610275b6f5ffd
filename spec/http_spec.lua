local support = require "spec.support"

describe("http.get", function()
  local server
  setup(function() server = support.server "httpd.lua" end)
  teardown(function() server.stop() end)

  -- U is the address of the server, http the module.
  local function with(code)
    return support.ok('local U, http = os.getenv "SERVER", require("mpengine").http ' .. code,
      { env = { SERVER = server.url, no_proxy = "127.0.0.1" } })
  end

  it("gives status, body, headers in any case, the URL and the time it took", function()
    with[[
      local r = http.get(U .. "/hello")
      eq(r.status, 200) eq(r.body, "hello") eq(r.url, U .. "/hello")
      eq(r.headers["X-Server"], "spec") eq(r.headers["x-server"], "spec") eq(r.headers["CONTENT-LENGTH"], "5")
      eq(r.headers["absent"], nil)
      assert(type(r.elapsed) == "number" and r.elapsed >= 0)]]
  end)

  it("gives a status of failure as a response, not as an error", function()
    with[[
      local r = http.get(U .. "/status/404")
      eq(r.status, 404) eq(r.body, "status 404")
      eq(http.get(U .. "/status/500").status, 500)]]
  end)

  it("gives bodies of any size, whole, chunked or empty", function()
    with[[
      eq(#http.get(U .. "/bytes/3000000").body, 3000000)
      eq(http.get(U .. "/bytes/0").body, "")
      eq(http.get(U .. "/chunked").body, "hello")]]
  end)

  it("sends the headers it was given", function()
    with[[
      local r = http.get(U .. "/echo", { headers = { ["X-Mine"] = "yes", Accept = "text/plain" } })
      assert(r.body:find("^GET /echo"), r.body)
      assert(r.body:find("X-Mine: yes", 1, true), r.body)
      assert(r.body:find("Accept: text/plain", 1, true), r.body)]]
  end)

  it("follows redirects, and tells where it arrived", function()
    with[[
      local r = http.get(U .. "/redirect/5")
      eq(r.status, 200) eq(r.body, "hello") eq(r.url, U .. "/hello")]]
  end)

  it("does three at once", function()
    with[[
      local co, tasks = mp.co, {}
      for i = 1, 3 do tasks[i] = co.spawn(http.get, U .. "/together/3/get") end
      for i = 1, 3 do eq(tasks[i]:get().body, "together get") end]]
  end)

  it("does thirty at once, while others run", function()
    with[[
      local co, tasks, ticks, stop = mp.co, {}, 0, false
      co.spawn(function() while not stop do ticks = ticks + 1 co.sleep(0.001) end end)
      for i = 1, 30 do tasks[i] = co.spawn(http.get, U .. "/together/30/many") end
      for i = 1, 30 do eq(tasks[i]:get().status, 200) end
      stop = true
      assert(ticks > 0)]]
  end)

  it("waits together with queues and processes", function()
    with[[
      local co, q = mp.co, mp.Queue()
      local t = co.spawn(http.get, U .. "/together/2/mixed")
      local p = P(function() q:put(http.get(U .. "/together/2/mixed").body) end)
      eq(q:get(), "together mixed")
      eq(t:get().body, "together mixed")
      all{ p }]]
  end)

  it("gives nil and a reason when there is nobody: refused, no such name, dropped, no URL", function()
    with[[
      local function fails(url, text)
        local r, why = http.get(url)
        eq(r, nil)
        assert(type(why) == "string" and why ~= "")
        if text then assert(why:lower():find(text, 1, true), why) end
      end
      fails("http://127.0.0.1:1/", "connect")
      fails("http://no-such-host.invalid/")
      fails(U .. "/drop")
      fails("gopher-ish://x")]]
  end)

  it("gives nil, timeout after its timeout, never early", function()
    with[[
      local from = now()
      eq(table.pack(http.get(U .. "/never", { timeout = 0.2 })), table.pack(nil, "timeout"))
      late(from, 0.2)
      eq(table.pack(http.get(U .. "/stall", { timeout = 0.2 })), table.pack(nil, "timeout"))
      eq(http.get(U .. "/hello", { timeout = 30 }).body, "hello")]]
  end)

  it("wants a URL and options", function()
    with[[
      raises({ "get", "url" }, http.get)
      raises({ "get", "url" }, http.get, 5)
      raises({ "get", "opts" }, http.get, U, 5)
      raises({ "timeout" }, http.get, U, { timeout = -1 })]]
  end)

  it("can be used in a child after the parent has used it", function()
    with[[
      eq(http.get(U .. "/hello").body, "hello")
      local list = {}
      for i = 1, 3 do list[i] = P(function() assert(http.get(U .. "/hello").body == "hello") end) end
      all(list)
      eq(http.get(U .. "/hello").body, "hello")]]
  end)

  it("is also require 'mpengine.http'", function()
    with[[assert(require "mpengine.http" == mp.http)]]
  end)
end)

describe("http, in full #later", function()
  local server
  setup(function() server = support.server "httpd.lua" end)
  teardown(function() server.stop() end)

  local function with(code)
    return support.ok('local U, http = os.getenv "SERVER", require("mpengine").http ' .. code,
      { env = { SERVER = server.url, no_proxy = "127.0.0.1" } })
  end

  it("posts, puts, deletes, asks for the head", function()
    with[[
      local r = http.post(U .. "/echo", "the body", { headers = { ["Content-Type"] = "text/x" } })
      assert(r.body:find("^POST /echo"), r.body)
      assert(r.body:find("Content-Type: text/x", 1, true), r.body)
      assert(r.body:find("\n\nthe body$"), r.body)
      assert(http.put(U .. "/echo", "abc").body:find("^PUT .*abc$"))
      assert(http.delete(U .. "/echo").body:find("^DELETE "))
      r = http.head(U .. "/bytes/10")
      eq(r.body, "") eq(r.headers["content-length"], "10")
      r = http.request{ method = "PATCH", url = U .. "/echo", body = "a\0b" }
      assert(r.body:find("^PATCH ") and r.body:find("a\0b$"), r.body)
      eq(#http.post(U .. "/echo", ("x"):rep(1000000)).body > 1000000, true)]]
  end)

  it("follows no more redirects than it may", function()
    with[[
      eq(http.request{ url = U .. "/redirect/3", redirects = 0 }.status, 302)
      local r, why = http.get(U .. "/loop")
      eq(r, nil)
      assert(why:lower():find("redirect", 1, true), why)
      eq(http.get(U .. "/redirect/3", { redirects = 3 }).body, "hello")
      eq((http.get(U .. "/redirect/3", { redirects = 2 })), nil)]]
  end)

  it("signs in", function()
    with[[
      eq(http.get(U .. "/auth").status, 401)
      eq(http.get(U .. "/auth", { auth = "user:pw" }).body, "welcome")]]
  end)

  it("gives the body to a sink, piece by piece", function()
    with[[
      local pieces = {}
      local r = http.get(U .. "/bytes/500000", { sink = function(s) pieces[#pieces + 1] = s end })
      eq(#table.concat(pieces), 500000)
      eq(r.status, 200)
      raises("the reason", http.get, U .. "/hello", { sink = function() error("the reason") end })]]
  end)

  it("goes through a proxy", function()
    with[[
      local r = http.get("http://elsewhere.invalid/echo", { proxy = U })
      assert(r.body:find("^GET http://elsewhere.invalid/echo"), r.body)]]
  end)

  it("keeps connections and cookies in a session", function()
    with[[
      local s = http.Session{}
      eq(s:get(U .. "/connection").body, s:get(U .. "/connection").body)
      eq(s:get(U .. "/cookie/get").body, "none")
      s:get(U .. "/cookie/set")
      eq(s:get(U .. "/cookie/get").body, "taste=sweet")
      eq(http.get(U .. "/cookie/get").body, "none")]]
  end)

  it("is cancelled with the task that waits", function()
    with[[
      local co = mp.co
      local t = co.spawn(http.get, U .. "/never")
      co.sleep(0.01)
      t:kill()
      eq(t:join(10), true)
      eq(table.pack(co.with_timeout(0.05, http.get, U .. "/never")), table.pack(nil, "timeout"))]]
  end)
end)

describe("subprocess #later", function()
  local ok = support.ok

  it("runs a program and gives status, stdout and stderr", function()
    ok[[
      local r = mp.subprocess.run{ "sh", "-c", "echo out; echo err >&2; exit 3" }
      eq({ r.status, r.stdout, r.stderr }, { 3, "out\n", "err\n" })
      eq(mp.subprocess.run{ "cat", stdin = ("x"):rep(300000) }.stdout, ("x"):rep(300000))
      eq(mp.subprocess.run{ "sh", "-c", "kill -9 $$" }.status, -9)
      eq(mp.subprocess.run{ "echo", "a b", "$HOME" }.stdout, "a b $HOME\n")]]
  end)

  it("gives nil and a reason: no such program, timeout", function()
    ok[[
      local r, why = mp.subprocess.run{ "/no/such/program" }
      eq(r, nil)
      assert(type(why) == "string")
      local from = now()
      eq(table.pack(mp.subprocess.run{ "sleep", "60", timeout = 0.1 }), table.pack(nil, "timeout"))
      late(from, 0.1)]]
  end)

  it("suspends only the task", function()
    ok[[
      local co, tasks = mp.co, {}
      local dir = os.tmpname()
      for i = 1, 2 do
        tasks[i] = co.spawn(mp.subprocess.run, { "sh", "-c",
          ("touch %s.%d; while [ ! -e %s.%d ]; do sleep 0.01; done"):format(dir, i, dir, 3 - i), timeout = 10 })
      end
      for i = 1, 2 do eq(tasks[i]:get().status, 0) os.remove(dir .. "." .. i) end
      os.remove(dir)]]
  end)
end)
