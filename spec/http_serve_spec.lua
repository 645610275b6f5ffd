-- Servers of HTTP. Their clients here are http.get, raw sockets of LuaSocket in the same program, curl
-- and Python.
local support = require "spec.support"

-- serve(settings) starts a server; raw(s, text) sends bytes, and gives all that comes back until the
-- server closes.
local HEAD = [[
  local co, http, socket = mp.co, mp.http, nil
  mp.monkey.patch_all()
  socket = require "socket"
  local function serve(settings)
    if type(settings) == "function" then settings = { handler = settings } end
    settings.port = settings.port or 0
    return http.serve(settings):start()
  end
  local function url(s, path) return "http://127.0.0.1:" .. s.port .. (path or "/") end
  local function get(s, path, opts) return assert(http.get(url(s, path), opts)) end
  local function connect(s)
    local c = assert(socket.connect("127.0.0.1", s.port))
    c:settimeout(10)
    return c
  end
  local function rest(c)
    local all, _, part = c:receive "*a"
    return all or part
  end
  local function raw(s, text)
    local c = connect(s)
    c:send(text)
    local answer = rest(c)
    c:close()
    return answer
  end
  local function status_of(answer) return tonumber(answer:match "^HTTP/1%.1 (%d+)") end
  -- One response with a Content-Length: its status, headers in lower case, and body.
  local function response(c)
    local status = tonumber((c:receive() or ""):match "^HTTP/1%.1 (%d+)")
    local headers = {}
    for line in function() return (c:receive()) end do
      if line == "" then break end
      local name, value = line:match "^([^:]+):%s*(.*)$"
      headers[name:lower()] = value
    end
    local size = tonumber(headers["content-length"] or 0)
    return status, headers, size > 0 and c:receive(size) or ""
  end
  local GET = "GET / HTTP/1.1\r\nHost: x\r\n"
]]
local function ok(code, opts) return support.ok(HEAD .. code, opts) end
local function run(code, opts) return support.run(HEAD .. code, opts) end

describe("http.serve", function()
  it("answers with what the handler returns: status, headers, body", function()
    ok[[
      local s <close> = serve(function(req)
        return 201, { ["X-One"] = "1", ["X-Number"] = 7, ["Set-Cookie"] = { "a=1", "b=2" } }, "made " .. req.path
      end)
      local r = get(s, "/x")
      eq({ r.status, r.body }, { 201, "made /x" })
      eq({ r.headers["x-one"], r.headers["x-number"] }, { "1", "7" })
      eq(r.set_cookie, { "a=1", "b=2" })
      eq(r.headers["content-length"], "7")
      assert(r.headers.date)]]
  end)

  it("answers without headers and without a body", function()
    ok[[
      local s <close> = serve(function(req) return tonumber(req.path:sub(2)) end)
      for _, status in ipairs { 200, 204, 304, 404, 500, 599 } do
        local r = get(s, "/" .. status)
        eq({ r.status, r.body }, { status, "" })
      end]]
  end)

  it("gives the handler the method, the path decoded, the query, the target and the body", function()
    ok[[
      local seen
      local s <close> = serve(function(req)
        seen = req
        return 200
      end)
      local target = "/a%20b/%C3%A9%2f%zz?x=1&y=a%26b+c&x=2&flag&e=&=v"
      http.request { method = "PUT", url = url(s, target), body = "some\0body" }
      eq({ seen.method, seen.path, seen.body }, { "PUT", "/a b/\xC3\xA9/%zz", "some\0body" })
      eq(seen.target, target)
      eq(seen.query, { x = { "1", "2" }, y = "a&b c", flag = "", e = "", [""] = "v" })
      assert(seen.peer:find "^127%.0%.0%.1:%d+$", seen.peer)
      get(s)
      eq({ seen.path, seen.body, next(seen.query) }, { "/", "" })
      raw(s, "GET http://host/abs?q HTTP/1.1\r\nHost: host\r\nConnection: close\r\n\r\n")
      eq({ seen.path, seen.target, seen.query }, { "/abs", "http://host/abs?q", { q = "" } })
      raw(s, "OPTIONS * HTTP/1.1\r\nHost: host\r\nConnection: close\r\n\r\n")
      eq({ seen.method, seen.path }, { "OPTIONS", "*" })]]
  end)

  it("gives the headers in any case; one of several lines is a list", function()
    ok[[
      local s <close> = serve(function(req)
        local h = req.headers
        local list = h["x-list"]
        return 200, nil, table.concat({ h["X-One"], h["x-ONE"], #list, list[1], list[2], tostring(h.absent) }, ",")
      end)
      local answer = raw(s, GET .. "X-One: 1\r\nX-List: a\r\nx-list: b, c\r\nConnection: close\r\n\r\n")
      assert(answer:find("\r\n\r\n1,1,2,a,b, c,nil$"), answer)]]
  end)

  it("sends the pieces of an iterator as they come, chunked", function()
    ok[[
      local gate = co.Event()
      local s <close> = serve(function(req)
        local n = 0
        return 200, nil, function()
          n = n + 1
          if n == 2 then gate:wait() end
          if n <= 3 then return n == 3 and ("x"):rep(200000) or "piece " .. n .. ";" end
        end
      end)
      local c = connect(s)
      c:send(GET .. "\r\n")
      local head = {}
      repeat local line = c:receive() head[#head + 1] = line until line == ""
      assert(table.concat(head, "\n"):lower():find "transfer%-encoding: chunked")
      eq({ c:receive(), c:receive() }, { "8", "piece 1;" })
      gate:set()
      local r = get(s)
      eq(r.body, "piece 1;piece 2;" .. ("x"):rep(200000))]]
  end)

  it("runs each handler in a task of its own", function()
    ok[[
      local arrived, both = 0, co.Event()
      local s <close> = serve(function()
        arrived = arrived + 1
        if arrived == 2 then both:set() end
        both:wait()
        return 200, nil, "met"
      end)
      local other = co.spawn(get, s)
      eq(get(s).body, "met")
      eq(other:get().body, "met")]]
  end)

  it("reports a handler that raises, answers 500, closes the connection and goes on", function()
    local r = run[[
      local s <close> = serve(function(req)
        if req.path == "/raise" then error "what the handler says" end
        return 200, nil, "fine"
      end)
      local answer = raw(s, "GET /raise HTTP/1.1\r\nHost: x\r\n\r\n")
      eq(status_of(answer), 500)
      assert(answer:find "\nConnection: close\r")
      assert(not answer:find "what the handler says")
      eq(get(s).body, "fine")
      eq(s:stats().failed, 1)
      print "goes on"]]
    assert.equal("goes on\n", r.stdout)
    assert.truthy(r.stderr:find "^GET /raise: .*:%d+: what the handler says", r.stderr)
    assert.equal(0, r.status)
  end)

  local no_answers = {
    ["nothing"] = { "", "the status of an answer must be an integer from 200 to 999, the handler returned nothing" },
    ["a string"] = { "'x'", "must be an integer from 200 to 999, the handler returned a string" },
    ["99"] = { "99", "the status of an answer must be an integer from 200 to 999, the handler returned 99" },
    ["headers that are a string"] = { "200, 'x'", "the headers of an answer must be a table or nil" },
    ["a number as body"] = { "200, nil, 5", "the body of an answer must be a string, an iterator or a file" },
    ["a table as body"] = { "200, nil, {}", "the body of an answer must be a string, an iterator or a file" },
    ["a header of two lines"] = { "200, { A = 'b\\r\\nC: d' }", "header 'A' must be one line, or a list of them" },
    ["a header with a bad name"] = { "200, { ['A b'] = '' }", "'A b' is not a valid name of a header" },
    ["too large headers"] = { "200, { A = ('a'):rep(5000), B = { ('b'):rep(5000) } }",
      "the headers of an answer are more than 8 KiB" },
    ["a closed file"] = { "200, nil, closed", "the file of an answer is closed" },
    ["a pipe as body"] = { "200, nil, io.popen 'true'", "the file of an answer is no regular file" },
  }
  for name, case in pairs(no_answers) do
    it("reports an answer that is none, and answers 500: " .. name, function()
      local r = run([[
        local closed = io.tmpfile()
        closed:close()
        local s <close> = serve(function(req)
          if req.path == "/good" then return 200 end
          return ]] .. case[1] .. [[
        end)
        eq(get(s).status, 500)
        eq(get(s, "/good").status, 200)]])
      assert.truthy(r.stderr:find(case[2], 1, true), r.stderr)
      assert.equal(0, r.status)
    end)
  end

  it("ends the answer without its end when an iterator raises", function()
    local r = run[[
      local s <close> = serve(function()
        local n = 0
        return 200, nil, function()
          n = n + 1
          if n == 2 then error "in the middle" end
          return "first"
        end
      end)
      local answer = raw(s, GET .. "\r\n")
      assert(answer:find "first", answer)
      assert(not answer:find "\r\n0\r\n")
      local body, why = http.get(url(s))
      eq(body, nil)]]
    assert.truthy(r.stderr:find("in the middle", 1, true), r.stderr)
    assert.equal(0, r.status)
  end)

  it("lets go of an iterator whose client has gone", function()
    ok[[
      local given, ended = 0, co.Event()
      local s <close> = serve(function(req)
        if req.path == "/ping" then return 200 end
        local guard = setmetatable({}, { __close = function() ended:set() end })
        return 200, nil, coroutine.wrap(function()
          while true do
            given = given + 1
            coroutine.yield(("x"):rep(100000))
          end
        end)
      end)
      local c = connect(s)
      c:send(GET .. "\r\n")
      c:receive(1000)
      c:close()
      until_true(function() return s:stats().open == 0 end)
      local before = given
      get(s, "/ping")
      eq(given, before)]]
  end)
end)

describe("the protocol of http.serve", function()
  it("keeps connections, and answers pipelined requests in order", function()
    ok[[
      local s <close> = serve(function(req)
        if req.path == "/1" then co.sleep(0.05) end
        return 200, nil, req.path .. req.body
      end)
      local c = connect(s)
      c:send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        .. "GET /3 HTTP/1.1\r\nHost: x\r\n\r\n")
      for _, expected in ipairs { "/1", "/2abc", "/3" } do eq(select(3, response(c)), expected) end
      eq(s:stats().accepted, 1)
      eq(s:stats().requests, 3)
      c:send(GET .. "Connection: close\r\n\r\n")
      eq(response(c), 200)
      eq(rest(c), "")]]
  end)

  it("closes after HTTP/1.0, unless it is asked to keep the connection", function()
    ok[[
      local s <close> = serve(function() return 200, nil, "x" end)
      assert(raw(s, "GET / HTTP/1.0\r\n\r\n"):find "\r\n\r\nx$")
      local c = connect(s)
      c:send "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
      eq(response(c), 200)
      c:send "GET / HTTP/1.0\r\n\r\n"
      eq(response(c), 200)
      eq(rest(c), "")]]
  end)

  it("answers HEAD without the body, with its length", function()
    ok[[
      local s <close> = serve(function(req)
        if req.path == "/given" then return 200, { ["Content-Length"] = 1234 } end
        if req.path == "/pieces" then return 200, nil, function() error "is not asked for" end end
        return 200, nil, "12345"
      end)
      local c = connect(s)
      for path, length in pairs { ["/"] = "5", ["/given"] = "1234" } do
        c:send("HEAD " .. path .. " HTTP/1.1\r\nHost: x\r\n\r\n")
        local lines = {}
        repeat local line = c:receive() lines[#lines + 1] = line until line == ""
        assert(table.concat(lines, "\n"):find("Content-Length: " .. length, 1, true))
      end
      c:send("HEAD /pieces HTTP/1.1\r\nHost: x\r\n\r\n" .. GET .. "Connection: close\r\n\r\n")
      assert(rest(c):find "^HTTP/1.1 200 OK.-\r\n\r\nHTTP/1.1 200 OK.-\r\n\r\n12345$")]]
  end)

  it("answers each header with a response, however large both are", function()
    ok[[
      local s <close> = serve(function() return 200, { A = ("a"):rep(8100) }, "x" end)
      for _, name in ipairs { "one", "many", "target" } do
        local last, seen = 200, {}
        for size = 500, 24000, 500 do
          local lines = {}
          for i = 1, name == "many" and size // 25 or 0 do lines[i] = ("X-%05d: %s\r\n"):format(i, ("c"):rep(14)) end
          if name == "one" then lines[1] = "A: " .. ("c"):rep(size) .. "\r\n" end
          local target = name == "target" and ("t"):rep(size) or ""
          local status = status_of(raw(s, "GET /" .. target .. " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            .. table.concat(lines) .. "\r\n"))
          assert(status == 200 or status == 431 or status == 414, size)
          assert(last == 200 or status ~= 200)
          last = status
          seen[status] = size
        end
        assert(seen[200] >= 4000 and seen[name == "target" and 414 or 431], seen[200])
      end]]
  end)

  it("takes headers of 8 KiB, and answers with as many", function()
    ok[[
      local s <close> = serve(function(req) return 200, { ["X-Back"] = req.headers.cookie:sub(1, 4000) }, "x" end)
      local cookie = ("c"):rep(8000)
      local r = get(s, "/", { headers = { Cookie = cookie } })
      eq({ r.status, #r.headers["x-back"] }, { 200, 4000 })
      local many = {}
      for i = 1, 60 do many["X-" .. i] = ("v"):rep(60) end
      many.Cookie = "c"
      eq(get(s, "/", { headers = many }).status, 200)]]
  end)

  it("takes bodies of any size, with a length or chunked, also byte by byte", function()
    ok[[
      local s <close> = serve(function(req) return 200, nil, #req.body .. ":" .. req.body:sub(1, 5) end)
      eq(http.post(url(s), ("abcde"):rep(600000)).body, "3000000:abcde")
      local n = 0
      eq(http.post(url(s), function() n = n + 1 return n <= 20 and ("abcde"):rep(2000) or nil end).body, "200000:abcde")
      local c = connect(s)
      for byte in ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
          .. "3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n"):gmatch "." do
        c:send(byte)
      end
      assert(rest(c):find "\r\n\r\n5:abcde$")]]
  end)

  it("answers Expect: 100-continue before it reads the body", function()
    ok[[
      local s <close> = serve { max_body = 100, handler = function(req) return 200, nil, req.body end }
      local c = connect(s)
      c:send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
      eq({ c:receive(), c:receive() }, { "HTTP/1.1 100 Continue", "" })
      c:send "body"
      eq(select(3, response(c)), "body")
      c:send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\nExpect: 100-continue\r\n\r\n"
      eq(response(c), 413)
      eq(rest(c), "")
      eq(status_of(raw(s, GET .. "Expect: something\r\n\r\n")), 417)]]
  end)

  it("refuses a body over max_body with 413, and the client reads the answer", function()
    ok[[
      local s <close> = serve { max_body = 1000, handler = function(req) return 200, nil, "#" .. #req.body end }
      eq(http.post(url(s), ("x"):rep(1000)).body, "#1000")
      eq(http.post(url(s), ("x"):rep(1001)).status, 413)
      eq(http.post(url(s), ("x"):rep(5000000)).status, 413)
      local n = 0
      eq(http.post(url(s), function() n = n + 1 return n <= 2000 and ("x"):rep(1000) or nil end).status, 413)
      local r = mp.subprocess.run { "/usr/bin/python3", "-c", "\
import http.client, sys\
c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=10)\
c.request('POST', '/', b'x' * 3000000)\
print(c.getresponse().status)\
", tostring(s.port), timeout = 20 }
      eq({ r.stdout, r.stderr }, { "413\n", "" })
      eq(get(s).body, "#0")]]
  end)

  local bad = {
    ["no HTTP"] = { "hello\r\n\r\n", 400 },
    ["a header without a colon"] = { "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400 },
    ["a space before the colon"] = { "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400 },
    ["a target with a space"] = { "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400 },
    ["no host"] = { "GET / HTTP/1.1\r\n\r\n", 400 },
    ["two hosts"] = { "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400 },
    ["a length that is no number"] = { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\nabcde", 400 },
    ["a negative length"] = { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nabcde", 400 },
    ["a length with a sign"] = { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nabcde", 400 },
    ["two lengths"] = { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", 400 },
    ["a list of lengths"] = { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nabcde", 400 },
    ["a huge length"] = { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nabcde", 413 },
    ["length and coding"] = {
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        .. "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 400 },
    ["coding and length"] = {
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
        .. "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 400 },
    ["an unknown coding"] = { "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc", 501 },
    ["two codings"] = {
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400 },
    ["a coding in HTTP/1.0"] = { "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400 },
    ["a chunk size that is no number"] = {
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400 },
    ["a huge header"] = { "GET / HTTP/1.1\r\nHost: x\r\nA: " .. ("a"):rep(200000) .. "\r\n\r\n", 431 },
    ["many headers"] = { "GET / HTTP/1.1\r\nHost: x\r\n" .. ("A: b\r\n"):rep(20000) .. "\r\n", 431 },
    ["a huge target"] = { "GET /" .. ("a"):rep(200000) .. " HTTP/1.1\r\nHost: x\r\n\r\n", 414 },
    ["an unknown version"] = { "GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505 },
  }
  for name, case in pairs(bad) do
    it(("refuses %s with %d, closes, and serves others"):format(name, case[2]), function()
      local file = os.tmpname()
      support.write_file(file, case[1])
      finally(function() os.remove(file) end)
      ok([[
        local asked = {}
        local s <close> = serve(function(req) asked[#asked + 1] = req.path return 200 end)
        local answer = raw(s, io.open(os.getenv "BAD"):read "a")
        eq(status_of(answer), ]] .. case[2] .. [[)
        for status in answer:gmatch "HTTP/1%.1 (%d+)" do eq(tonumber(status), ]] .. case[2] .. [[) end
        eq(asked, {})
        eq(get(s).status, 200)
        until_true(function() return s:stats().open <= 1 end) -- the client keeps that one]], { env = { BAD = file } })
    end)
  end
end)

describe("the limits of http.serve", function()
  it("give a request so much time, however slowly it comes, and an idle connection", function()
    ok[[
      local s <close> = serve { timeout = 0.3, handler = function(req) return 200, nil, req.body end }
      local function drip(text)
        local c, from = connect(s), now()
        c:send(text)
        co.spawn(function() while c:send "a" do co.sleep(0.05) end end)
        local answer = rest(c)
        return answer, now() - from
      end
      local slow_body = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
      for _, text in ipairs { "", "GET / HTTP/1.1\r\nHost: ", slow_body } do
        local answer, took = drip(text)
        eq(answer, "")
        assert(took >= 0.29 and took < 5, took)
      end
      local c = connect(s)
      c:send(GET .. "\r\n")
      eq(response(c), 200)
      local from = now()
      eq(rest(c), "") -- idle
      late(from, 0.29)]]
  end)

  it("end a connection whose client does not read its answer", function()
    ok[[
      local s <close> = serve { timeout = 0.2, handler = function() return 200, nil, ("x"):rep(50000000) end }
      local c = connect(s)
      c:send(GET .. "\r\n")
      until_true(function() return s:stats().open == 1 end)
      until_true(function() return s:stats().open == 0 end)
      assert(#rest(c) < 50000000)]]
  end)

  it("do not bound the handler", function()
    ok[[
      local s <close> = serve { timeout = 0.1, handler = function() co.sleep(0.5) return 200, nil, "late" end }
      eq(get(s).body, "late")]]
  end)

  it("accept no more connections than max_connections at once", function()
    ok[[
      local s <close> = serve { max_connections = 1, handler = function() return 200, nil, "x" end }
      local first, second = connect(s), connect(s)
      first:send(GET .. "\r\n")
      eq(response(first), 200)
      second:send(GET .. "\r\n")
      second:settimeout(0.1)
      eq(select(2, second:receive()), "timeout")
      eq(s:stats().open, 1)
      first:close()
      second:settimeout(10)
      eq(response(second), 200)]]
  end)

  it("wait for a descriptor when there is none, and lose no connection", function()
    ok[[
      local s <close> = serve(function() return 200, nil, "x" end)
      local clients = {}
      for i = 1, 20 do
        clients[i] = connect(s)
        clients[i]:send(GET .. "\r\n")
        eq(response(clients[i]), 200)
      end
      local taken, f = {}, nil
      repeat f = io.open "/dev/null" taken[#taken + 1] = f until not f
      taken[#taken]:close() -- one for the client, none for the server
      taken[#taken] = nil
      local late_one = connect(s)
      late_one:send(GET .. "\r\n")
      late_one:settimeout(0.05)
      eq(select(2, late_one:receive()), "timeout")
      clients[1]:close()
      clients[2]:close()
      late_one:settimeout(10)
      eq(response(late_one), 200)]]
  end)

  it("leave nothing open", function()
    ok[[
      local s <close> = serve(function(req)
        if req.path == "/pieces" then
          local n = 0
          return 200, nil, function() n = n + 1 return n < 3 and "x" or nil end
        end
        return 200, nil, "x"
      end)
      local function round()
        raw(s, GET .. "Connection: close\r\n\r\n")
        raw(s, "GET /pieces HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw(s, "bad\r\n\r\n")
      end
      round()
      until_true(function() return s:stats().open == 0 end)
      collectgarbage()
      local before = descriptors()
      for _ = 1, 300 do round() end
      until_true(function() return s:stats().open == 0 end)
      assert(descriptors() <= before + 1)]]
  end)
end)

describe("a streamed body of http.serve", function()
  it("is read as it comes, by pieces or by counts", function()
    ok[[
      local s <close> = serve { stream = true, handler = function(req)
        eq(req.body, nil)
        local got = { req:read(3), req:read(3), tostring(req:read(3)) }
        return 200, nil, table.concat(got, "|")
      end }
      eq(http.post(url(s), "abcdef").body, "abc|def|nil")
      eq(http.post(url(s), "abcd").body, "abc|d|nil")
      local echo <close> = serve { stream = true, handler = function(req)
        local pieces = {}
        for piece in function() return (req:read()) end do pieces[#pieces + 1] = piece end
        assert(#pieces > 1)
        return 200, nil, table.concat(pieces)
      end }
      local big = ("0123456789"):rep(300000)
      eq(http.post(url(echo), big).body == big, true)]]
  end)

  it("holds the client back while it is not read", function()
    ok[[
      local go, s = co.Event(), nil
      s = serve { stream = true, handler = function(req)
        req:read(1)
        go:wait()
        local n = 1
        for piece in function() return (req:read()) end do n = n + #piece end
        return 200, nil, tostring(n)
      end }
      local sent = 0
      local asked = co.spawn(function()
        return http.post(url(s), function()
          if sent >= 40000000 then return nil end
          sent = sent + 100000
          return ("x"):rep(100000)
        end)
      end)
      local before
      repeat
        before = sent
        co.sleep(0.2)
      until sent > 0 and sent == before
      assert(sent < 20000000, sent)
      go:set()
      eq(asked:get().body, "40000000")
      s:stop(0)]]
  end)

  it("need not be read before the answer", function()
    ok[[
      local s <close> = serve { stream = true, handler = function(req)
        if req.path == "/some" then req:read(10) end
        return 403, nil, "no"
      end }
      local c = connect(s)
      c:send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\nExpect: 100-continue\r\n\r\n"
      eq(response(c), 403) -- and not 100
      eq(rest(c), "")
      for _, path in ipairs { "/none", "/some" } do
        local r = assert(http.post(url(s, path), ("x"):rep(1000000)))
        eq({ r.status, r.body }, { 403, "no" })
      end]]
  end)

  it("ends at max_body, and when the client goes or waits too long", function()
    ok[[
      local why
      local s <close> = serve { stream = true, max_body = 1000, timeout = 0.3, handler = function(req)
        local piece
        repeat piece, why = req:read() until not piece
        return 200
      end }
      eq(http.post(url(s), ("x"):rep(1001)).status, 413)
      local n = 0
      eq(http.post(url(s), function() n = n + 1 return n <= 20 and ("x"):rep(100) or nil end).status, 413)
      eq(why, "the body is too large")
      for _, is_slow in ipairs { false, true } do
        why = nil
        local c = connect(s)
        c:send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nabc"
        if not is_slow then c:close() end
        until_true(function() return why end)
        eq(why, "closed")
      end]]
  end)
end)

describe("files of http.serve", function()
  it("are sent whole, or the range that is asked for", function()
    ok[[
      local path = os.tmpname()
      local guard <close> = setmetatable({}, { __close = function() os.remove(path) end })
      local text = ("0123456789"):rep(100000)
      io.open(path, "w"):write(text):close()
      local s <close> = serve(function(req)
        if req.path == "/handle" then return 200, { ETag = '"v1"' }, io.open(path, "rb") end
        return req:file(path)
      end)
      local whole = get(s)
      eq(whole.body == text, true)
      eq({ whole.headers["accept-ranges"], whole.headers["content-type"] }, { "bytes", "application/octet-stream" })
      local function range(text, more)
        local headers = { Range = text }
        for k, v in pairs(more or {}) do headers[k] = v end
        local r = get(s, more and more.path or "/", { headers = headers })
        return { r.status, #r.body <= 20 and r.body or #r.body, r.headers["content-range"] }
      end
      eq(range "bytes=0-3", { 206, "0123", "bytes 0-3/1000000" })
      eq(range "bytes=999998-", { 206, "89", "bytes 999998-999999/1000000" })
      eq(range "bytes=-3", { 206, "789", "bytes 999997-999999/1000000" })
      eq(range "bytes=999999-2000000", { 206, "9", "bytes 999999-999999/1000000" })
      eq(range "bytes=1000000-", { 416, 26, "bytes */1000000" })
      eq(range "bytes=5-3", { 200, 1000000 })
      eq(range "lines=1-2", { 200, 1000000 })
      eq(range "bytes=0-1,4-5", { 200, 1000000 })
      eq(range("bytes=0-3", { ["If-Range"] = whole.headers.etag })[1], 206)
      eq(range("bytes=0-3", { ["If-Range"] = '"other"' })[1], 200)
      eq(get(s, "/handle", { headers = { Range = "bytes=1-2", ["If-Range"] = '"v1"' } }).body, "12")
      eq(get(s, "/", { headers = { ["If-None-Match"] = whole.headers.etag } }).status, 304)
      eq(get(s, "/", { headers = { ["If-Modified-Since"] = whole.headers["last-modified"] } }).status, 304)
      local head = http.head(url(s), { headers = { Range = "bytes=0-9" } })
      eq({ head.status, head.headers["content-length"] }, { 206, "10" })
      eq(http.post(url(s), "x").status, 405)]]
  end)

  it("have the type of their name; one that is not there is 404", function()
    ok[[
      local path = os.tmpname() .. ".html"
      local guard <close> = setmetatable({}, { __close = function() os.remove(path) end })
      io.open(path, "w"):write "<p>":close()
      local s <close> = serve(function(req) return req:file(req.query.name, { ["X-A"] = "b" }) end)
      local r = get(s, "/?name=" .. path)
      eq({ r.status, r.body, r.headers["content-type"], r.headers["x-a"] },
        { 200, "<p>", "text/html; charset=utf-8", "b" })
      eq(get(s, "/?name=/no/such/file").status, 404)
      eq(get(s, "/?name=/tmp").status, 404)]]
  end)

  it("do not end the server when their client has gone", function()
    ok[[
      local path = os.tmpname()
      local guard <close> = setmetatable({}, { __close = function() os.remove(path) end })
      io.open(path, "w"):write(("x"):rep(20000000)):close()
      local s <close> = serve(function(req) return req:file(path) end)
      for _ = 1, 3 do
        local c = connect(s)
        c:send(GET .. "\r\n")
        c:receive(10)
        c:close()
      end
      until_true(function() return s:stats().open == 0 end)
      eq(#get(s).body, 20000000)]]
  end)
end)

describe("the workers of http.serve", function()
  it("share the listener, and the main process serves nothing", function()
    ok[[
      local s <close> = serve { workers = 2, handler = function()
        return 200, nil, tostring(mp.current_process().pid)
      end }
      local pids = {}
      local function ask() return raw(s, GET .. "Connection: close\r\n\r\n"):match "%d+$" end
      until_true(function()
        local asked = {}
        for i = 1, 20 do asked[i] = co.spawn(ask) end
        for i = 1, 20 do pids[tonumber(asked[i]:get())] = true end
        local n = 0
        for _ in pairs(pids) do n = n + 1 end
        return n == 2
      end)
      assert(not pids[mp.current_process().pid])
      local stats = s:stats()
      eq(#stats.workers, 2)
      assert(pids[stats.workers[1].pid] and pids[stats.workers[2].pid])
      eq(stats.requests, stats.workers[1].requests + stats.workers[2].requests)
      eq(stats.requests % 20, 0)]]
  end)

  it("are replaced when they die", function()
    local r = run[[
      local s <close> = serve { name = "web", workers = 1, handler = function(req)
        if req.path == "/die" then kill(0) end
        return 200, nil, tostring(mp.current_process().pid)
      end }
      local first = get(s).body
      eq(http.get(url(s, "/die")), nil)
      local second = get(s).body
      assert(first ~= second)
      print "served again"]]
    assert.equal("served again\n", r.stdout)
    assert.truthy(r.stderr:find "web: worker web%-1 %(pid %d+%) ended with %-9; the next one starts in 0%.1 s",
      r.stderr)
    assert.equal(0, r.status)
  end)

  for _, workers in ipairs { 0, 1 } do
    it(("stop: requests are answered, those that last too long with 503 (%d workers)"):format(workers), function()
      ok([[
        local seen = mp.RawArray("i", 2)
        local s = serve { workers = ]] .. workers .. [[, handler = function(req)
          seen[1] = seen[1] + 1
          if req.path == "/" then return 200, nil, "x" end
          co.sleep(req.path == "/short" and 0.3 or 60)
          return 200, nil, "done"
        end }
        local idle, short, long = connect(s), connect(s), connect(s)
        idle:send(GET .. "\r\n")
        eq(response(idle), 200)
        short:send "GET /short HTTP/1.1\r\nHost: x\r\n\r\n"
        long:send "GET /long HTTP/1.1\r\nHost: x\r\n\r\n"
        until_true(function() return seen[1] == 3 end)
        local from = now()
        local stopping = co.spawn(s.stop, s, 2)
        eq(rest(idle), "")
        assert(now() - from < 1.9, "an idle connection is closed at once")
        local answer = rest(short)
        assert(answer:find "\r\n\r\ndone$" and answer:find "\nConnection: close\r", answer)
        eq(status_of(rest(long)), 503)
        stopping:get()
        late(from, 2)
        assert(now() - from < 30)
        eq(socket.connect("127.0.0.1", s.port), nil)
        eq(s:stop(), true)]])
    end)
  end

  it("serve until SIGTERM in serve_forever", function()
    ok[[
      local port = mp.Queue()
      local p = mp.Process{ target = function()
        local s = http.serve { port = 0, handler = function() return 200, nil, "x" end }
        s:start()
        port:put(s.port)
        s:serve_forever()
        print "stopped well"
      end }
      p:start()
      eq(get({ port = port:get() }).body, "x")
      p:terminate()
      eq(p:join(10), true)
      eq(p.exitcode, 0)]]
  end)

  for _, ending in ipairs { "", "os.exit(0, true)", "error 'at the end'" } do
    it("end with the program while requests run: " .. (ending == "" and "its last line" or ending), function()
      local r = run([[
        local started = 0
        local s = serve(function(req)
          started = started + 1
          if req.path == "/ws" then return req:websocket(function(ws) ws:recv() end) end
          co.sleep(60)
        end)
        local clients = {}
        for i = 1, 3 do
          clients[i] = connect(s)
          clients[i]:send(i < 3 and GET .. "\r\n" or "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            .. "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        end
        until_true(function() return started == 3 end)
        io.write "served"
        io.stdout:flush()
      ]] .. ending)
      assert.equal("served", r.stdout)
      assert.equal(ending:find "error" and 1 or 0, r.status)
      if not ending:find "error" then assert.equal("", r.stderr) end
    end)
  end

  it("leave the connections of a server to it when they are forked from it", function()
    ok[[
      local s <close> = serve(function(req)
        if req.path ~= "/fork" then return 200, nil, "x" end
        local p = mp.Process{ target = function() return 0 end }
        local stays = mp.Process{ target = co.sleep, args = { 30 }, daemon = true }
        p:start()
        stays:start()
        p:join()
        return 200, nil, "forked"
      end)
      local c = connect(s)
      c:send("GET /fork HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      assert(rest(c):find "forked$") -- also its end: the child has no copy
      eq(get(s).body, "x")]]
  end)
end)

describe("TLS of http.serve", function()
  it("needs a certificate and a key, as files or as text", function()
    local dir = support.shell("mktemp -d"):gsub("\n", "")
    finally(function() os.execute("rm -r " .. dir) end)
    support.shell(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext " ..
      "subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout %s/key -out %s/cert 2>/dev/null"):format(dir, dir))
    ok([[
      local dir = os.getenv "DIR"
      local function text(name) return io.open(dir .. "/" .. name):read "a" end
      local files, texts = { cert = dir .. "/cert", key = dir .. "/key" }, { cert = text "cert", key = text "key" }
      for _, tls in ipairs { files, texts } do
        local s <close> = serve { tls = tls, handler = function(req)
          return 200, nil, req.method .. #req.body
        end }
        local u = "https://localhost:" .. s.port
        eq(assert(http.get(u, { verify = dir .. "/cert" })).body, "GET0")
        eq(assert(http.post(u, ("x"):rep(1000000), { verify = dir .. "/cert" })).body, "POST1000000")
        eq(http.get(u), nil) -- an unknown issuer
        eq(http.get("http://localhost:" .. s.port), nil)
        eq(assert(http.get(u, { verify = dir .. "/cert" })).body, "GET0")
      end
      local s <close> = serve { tls = files, timeout = 1.5, handler = function() return 200, nil, "x" end }
      local half, nothing = connect(s), connect(s)
      half:send "\22\3\1\2\0\1\0" -- the begin of a handshake
      co.sleep(0.1)
      local before = os.clock()
      co.sleep(0.5)
      assert(os.clock() - before < 0.2, "it is busy with half a handshake")
      eq(assert(http.get("https://localhost:" .. s.port, { verify = dir .. "/cert" })).body, "x")
      eq({ rest(half), rest(nothing) }, { "", "" }) -- their time is over
      local function wrong(message, tls) raises(message, http.serve, { handler = print, tls = tls }) end
      wrong("http.serve: field 'tls.cert' must be the name of a file in PEM form, or its text", {})
      wrong("http.serve: field 'tls.key': /no/such: No such file or directory", { cert = texts.cert, key = "/no/such" })
      wrong("http.serve: unknown field 'tls.chain'", { chain = "x" })
      wrong("http.serve:", { cert = text "key", key = text "cert" })]], { env = { DIR = dir } })
  end)
end)

describe("the settings of http.serve", function()
  it("are checked", function()
    ok[[
      local S = http.serve
      raises("http.serve: field 'handler' must be a function, got no value", S, {})
      raises("http.serve: field 'max_body' must be an integer, 0 or more, got -1", S,
        { max_body = -1, handler = print })
      raises("http.serve: field 'timeout' must be a number of seconds, more than 0, got 0", S,
        { timeout = 0, handler = print })
      raises("http.serve: unknown field 'prot'", S, { prot = 1, handler = print })
      raises("bad argument #1 to 'http.serve' (table expected", S, print)
      local s <close> = serve(function() end)
      raises("http.serve:start: cannot listen on 127.0.0.1:" .. s.port .. ": address already in use", function()
        serve { port = s.port, handler = print }
      end)
      assert(tostring(s):find "^mp%.http%.serve: 127%.0%.0%.1:%d+ %(serving%)$", tostring(s))]]
  end)
end)
