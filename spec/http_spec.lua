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

  it("sends the given headers", function()
    with[[
      local r = http.get(U .. "/echo", { headers = { ["X-Mine"] = "yes", Accept = "text/plain" } })
      assert(r.body:find("^GET /echo"), r.body)
      assert(r.body:find("X-Mine: yes", 1, true), r.body)
      assert(r.body:find("Accept: text/plain", 1, true), r.body)]]
  end)

  it("follows redirects, and gives the final URL", function()
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

  it("gives nil and a reason without a server: refused, no such name, dropped, no URL", function()
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

  it("requires a URL and options", function()
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

  it("closes no file in a child that has the number of a connection that failed", function()
    support.ok[[
      local http, server = mp.http, assert(require "socket".bind("127.0.0.1", 0, 0)) -- it accepts none
      local url = "http://127.0.0.1:" .. select(2, server:getsockname())
      local tasks = {}
      for i = 1, 8 do tasks[i] = mp.co.spawn(http.get, url, { timeout = 0.05 }) end
      for i = 1, 8 do eq(select(2, tasks[i]:get()), "timeout") end
      files = {}
      for i = 1, 20 do files[i] = assert(io.tmpfile()) end
      all{ P(function()
        for i = 1, 20 do assert(files[i]:write "x" and files[i]:flush()) end
      end) }
    ]]
  end)

  it("is also require 'mpengine.http'", function()
    with[[assert(require "mpengine.http" == mp.http)]]
  end)
end)

describe("http, in full #later", function()
  local server
  setup(function() server = support.server "httpd.lua" end)
  teardown(function() server.stop() end)

  local function with(code, before)
    return support.ok('local U, http = os.getenv "SERVER", require("mpengine").http ' .. code,
      { env = { SERVER = server.url, no_proxy = "127.0.0.1" }, before = before })
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

  it("follows no more redirects than allowed", function()
    with[[
      eq(http.request{ url = U .. "/redirect/3", redirects = 0 }.status, 302)
      local r, why = http.get(U .. "/loop")
      eq(r, nil)
      assert(why:lower():find("redirect", 1, true), why)
      eq(http.get(U .. "/redirect/3", { redirects = 3 }).body, "hello")
      eq((http.get(U .. "/redirect/3", { redirects = 2 })), nil)]]
  end)

  it("authenticates", function()
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

  it("sends no header that is more than one line, and takes no unknown option", function()
    with[[
      raises({ "get", "X-Mine" }, http.get, U, { headers = { ["X-Mine"] = "a\r\nX-Other: b" } })
      raises({ "get", "name" }, http.get, U, { headers = { ["X-Mine\r\nX-Other"] = "a" } })
      raises({ "request", "method" }, http.request, { url = U, method = "GET / HTTP/1.1\r\nX: y\r\n\r\n" })
      raises({ "get", "tmeout" }, http.get, U, { tmeout = 1 })
      raises({ "post", "body" }, http.post, U, {})
      raises({ "Session", "sink" }, http.Session, { sink = print })
      eq((http.get(U .. "/hello\r\nX: y")), nil)
      eq((http.get("file:///etc/passwd")), nil)]]
  end)

  it("sends several values of a header, an empty one, and leaves out those set to false", function()
    with[[
      local body = http.get(U .. "/echo",
        { headers = { A = { "1", "2" }, B = "", C = 3, Accept = false } }).body .. "\n"
      for _, line in ipairs{ "A: 1", "A: 2", "B:", "C: 3" } do
        assert(body:find("\n" .. line .. "\n", 1, true), body)
      end
      assert(not body:find("Accept:", 1, true), body)]]
  end)

  it("holds the peer back while the sink waits, within the timeout", function()
    with[[
      local co, most, sum = mp.co, 0, 0
      local r = http.get(U .. "/bytes/3000000", { sink = function(s)
        most, sum = math.max(most, #s), sum + #s
        co.sleep(0.005)
      end })
      eq({ r.status, r.body, sum }, { 200, "", 3000000 })
      assert(most < 1000000, most)
      eq(table.pack(http.get(U .. "/bytes/30000000", { timeout = 0.1, sink = function() co.sleep(0.05) end })),
        table.pack(nil, "timeout"))]]
  end)

  it("gives a response that can be sent, with headers that are found in any case", function()
    with[[
      local q = mp.Queue()
      all{ P(function() q:put(http.get(U .. "/hello")) end) }
      local r = q:get()
      eq({ r.status, r.body, r.headers["X-SERVER"] }, { 200, "hello", "spec" })]]
  end)

  it("applies the options of a session to its requests, unless they have their own", function()
    with[[
      local s = http.Session{ headers = { A = "1", B = "2" }, redirects = 0 }
      local body = s:get(U .. "/echo", { headers = { b = "3" } }).body
      assert(body:find("A: 1", 1, true) and body:find("b: 3", 1, true) and not body:find("B: 2", 1, true), body)
      eq(s:get(U .. "/redirect/1").status, 302)
      eq(s:get(U .. "/redirect/1", { redirects = 1 }).status, 200)
      s:close()
      raises({ "get", "closed" }, s.get, s, U)
      eq({ tostring(http.Session()), tostring(s) }, { "mp.http.Session", "mp.http.Session (closed)" })
      raises("bad self (mp.http.Session expected", tostring, setmetatable({}, getmetatable(s)))
      raises("bad self (mp.http.Session expected", s.close, {})]]
  end)

  it("follows a 303, and a POST's 301 and 302, with a GET, and a HEAD with a HEAD", function()
    with[[
      local function second(method, code, body)
        local r = http.request{ method = method, url = ("%s/to/%d?/echo"):format(U, code), body = body,
          headers = { ["Content-Type"] = body and "text/x" } }
        eq(r.status, 200)
        return r.body:match "^%u+" or "", r.body:match "\n\n(.*)$", r.body:find("text/x", 1, true) ~= nil
      end
      for _, method in ipairs{ "POST", "PUT", "PATCH", "DELETE", "REPORT", "GET" } do
        eq({ second(method, 303, "abc") }, { "GET", "", false })
      end
      for _, code in ipairs{ 301, 302 } do
        eq({ second("POST", code, "abc") }, { "GET", "", false })
        for _, method in ipairs{ "PUT", "PATCH", "DELETE" } do
          eq({ second(method, code, "abc") }, { method, "abc", true })
        end
      end
      for _, code in ipairs{ 307, 308 } do
        for _, method in ipairs{ "POST", "PUT", "PATCH", "DELETE", "REPORT" } do
          eq({ second(method, code, "abc") }, { method, "abc", true })
          eq({ second(method, code) }, { method, "", false })
        end
      end
      for _, code in ipairs{ 301, 303, 307 } do eq((second("HEAD", code)), "") end
      eq(http.get(U .. "/to/303?/hello", { redirects = 0 }).body, "moved")]]
  end)

  it("gives a sink the last body only, and sends no secret to another host", function()
    with[[
      local pieces, other = {}, U:gsub("127.0.0.1", "localhost")
      http.get(U .. "/to/302?/hello", { sink = function(s) pieces[#pieces + 1] = s end })
      eq(table.concat(pieces), "hello")
      local secrets = { auth = "user:pw", headers = { Cookie = "a=1", ["X-Mine"] = "2" } }
      local body = http.get(U .. "/to/307?" .. other .. "/echo", secrets).body
      assert(not body:find "Authorization" and not body:find "Cookie" and body:find "X%-Mine: 2", body)
      body = http.get(U .. "/to/307?" .. U .. "/echo", secrets).body
      assert(body:find "Authorization" and body:find "Cookie: a=1", body)]]
  end)

  it("sends a body that a function gives piece by piece, and cannot send it twice", function()
    with[[
      local function pieces(n)
        return function()
          if n == 0 then return nil end
          n = n - 1
          mp.co.sleep(0)
          return n == 1 and "" or ("x"):rep(50000)
        end
      end
      for _, method in ipairs{ "post", "put", "patch" } do
        local r = http[method](U .. "/chunks", pieces(5))
        eq(r.body, method:upper() .. " 200000")
      end
      eq(http.post(U .. "/to/303?/echo", pieces(3)).body:match "^%u+", "GET")
      local r, why = http.post(U .. "/to/307?/echo", pieces(3))
      eq(r, nil)
      assert(why:find("307", 1, true) and why:find("function", 1, true), why)
      raises("the reason", http.post, U .. "/chunks", function() error("the reason") end)
      raises("strings", http.post, U .. "/chunks", function() return {} end)
      local function slowly() mp.co.sleep(0.3) return "x" end
      eq({ http.post(U .. "/chunks", slowly, { timeout = 0.1 }) }, { nil, "timeout" })
      local silent = "https" .. U:match "^http(:.*)" -- no answer to the handshake
      eq({ http.get(silent, { timeout = 0.1 }) }, { nil, "timeout" })
      eq({ mp.co.with_timeout(0.1, http.get, silent) }, { nil, "timeout" })]]
  end)

  it("separates the lines of Set-Cookie", function()
    with[[
      eq(http.get(U .. "/cookies").set_cookie, { "a=1; Expires=Wed, 09 Jun 2032 10:18:14 GMT", "b=2" })
      eq(http.get(U .. "/hello").set_cookie, {})]]
  end)

  it("verifies certificates, with those of a file, or not at all", function()
    support.ok([[
      local dir, http = os.getenv "SUPPORT", mp.http
      local server <close> = mp.subprocess.Popen{ "/usr/bin/python3", dir .. "/httpsd.py", stdout = "pipe" }
      local port = server:read()
      local url = "https://localhost:" .. port .. "/x"
      local function fails(part, opts)
        local r, why = http.get(url, opts)
        eq(r, nil)
        assert(why:find(url .. ": ", 1, true) == 1 and why:lower():find(part, 1, true), why)
      end
      for _, verify in ipairs{ false, dir .. "/tls/ca.pem" } do
        local r = assert(http.get(url, { verify = verify }))
        eq({ r.status, r.body, r.headers["X-LINE"] }, { 200, "secret", "one, two" })
        assert(r.elapsed > 0 and r.elapsed < 10)
        fails("certificate") -- the connections of before are not used
      end
      fails("certificate", { verify = true })
      fails("missing.pem", { verify = "missing.pem" })
      fails("key.pem", { verify = dir .. "/tls/key.pem" })
      local s <close> = http.Session{ verify = dir .. "/tls/ca.pem" }
      eq(s:get(url).body, "secret")
      eq(s:get(url, { verify = true }), nil)
      eq(http.get("https://127.0.0.1:" .. port, { verify = dir .. "/tls/ca.pem" }).body, "secret")
      raises("option 'verify' must be true, false or the name of a file, got 1", http.get, url, { verify = 1 })]],
      { env = { SUPPORT = support.root .. "/spec/support", no_proxy = "*", SSL_CERT_FILE = "", CURL_CA_BUNDLE = "" } })
  end)

  it("names the URL and the cause when there is no response", function()
    with([[
      local function says(url, ...)
        local r, why = http.get(url, { redirects = 1 })
        eq(r, nil)
        for _, part in ipairs{ ... } do assert(why:find(part, 1, true), why) end
      end
      says("http://127.0.0.1:1/x", "http://127.0.0.1:1/x: ", "Connection refused")
      says(U .. "/drop", U .. "/drop: ", "reply")
      says(U .. "/loop", U .. "/loop: ", "1", "redirects")
      says(U .. "/to/302?http://127.0.0.1:1/y", "http://127.0.0.1:1/y: ", "refused")
      local files = {}
      for f in function() return (io.open "/dev/null") end do files[#files + 1] = f end
      local r, why = http.get(U .. "/hello", { idle_timeout = 9 })
      for _, file in ipairs(files) do file:close() end
      eq(r, nil)
      assert(why:find("Too many open files", 1, true) and why:find(U, 1, true), why)]], "ulimit -n 200")
  end)

  -- open() is the number of sockets of this process.
  local OPEN = [[
    local function open()
      local n = 0
      for i = 3, 400 do
        local f = io.open("/proc/self/fdinfo/" .. i)
        if f then
          f:close()
          local link = io.popen("readlink /proc/" .. PID .. "/fd/" .. i)
          if link:read("a"):find "socket" then n = n + 1 end
          link:close()
        end
      end
      return n
    end
    local PID = mp.current_process().pid ]]
  OPEN = OPEN:gsub("^(.*)(local PID = [^\n]*)$", "%2 %1"):gsub("\n%s*", " ")

  it("closes the connections of a session with it, those in use when their requests end", function()
    with(OPEN .. [[
      local co, none = mp.co, nil
      http.get(U .. "/hello", { idle_timeout = 0 })
      none = open()
      local s, tasks = http.Session(), {}
      for i = 1, 5 do tasks[i] = co.spawn(function() return s:get(U .. "/together/5/session") end) end
      for i = 1, 5 do eq(tasks[i]:get().status, 200) end
      assert(open() >= none + 5)
      local last = co.spawn(function() return s:get(U .. "/together/2/last") end)
      co.sleep(0)
      s:close()
      eq(http.get(U .. "/together/2/last", { idle_timeout = 0 }).status, 200)
      eq(last:get().status, 200)
      eq(open(), none)]])
  end)

  it("closes connections that have been idle for their time, and nothing waits for that", function()
    with(OPEN .. [[
      local co, tasks = mp.co, {}
      http.get(U .. "/hello", { idle_timeout = 0 })
      local none = open()
      for i = 1, 5 do tasks[i] = co.spawn(http.get, U .. "/together/5/idle", { idle_timeout = 1 }) end
      for i = 1, 5 do eq(tasks[i]:get().status, 200) end
      assert(open() >= none + 5)
      until_true(function() return open() <= none + 2 end)
      eq(http.get(U .. "/hello", { idle_timeout = 1 }).body, "hello")]])
  end)

  it("leaves nothing that counts as waiting", function()
    support.ends(1, { "can never come" }, [[
      local co, http = mp.co, mp.http
      eq(http.get(os.getenv "SERVER" .. "/hello").status, 200)
      co.Event():wait()]], { env = { SERVER = server.url, no_proxy = "127.0.0.1" } })
  end)
end)
