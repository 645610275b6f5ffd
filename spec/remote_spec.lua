-- Objects of a manager of a URL: what they share with those of mp, and what only they have.
local support = require "spec.support"
local redis = require "spec.support.redis"

local server

setup(function() server = redis.start() end)
teardown(function() redis.remove(server) end)

local HEAD = [[
local co = mp.co
local URL = %q
local function matches(text, pattern) raises(pattern, error, text, 0) end
local m = mp.Manager(URL, { namespace = %q, lease = 2 })
-- Runs f in a process that is killed when it has said so.
local function killed(f)
  local told, tell = mp.Pipe()
  local p = mp.Process{ target = function() f() tell:send(true) co.sleep(60) end, daemon = true }
  p:start()
  told:recv()
  p:kill()
  p:join()
end
]]

local spaces = 0

local function ok(code, opts)
  spaces = spaces + 1
  return support.ok(HEAD:format(server.url, "spec" .. spaces) .. code, opts)
end

describe("a manager of a URL", function()
  it("refuses what is no URL of a server, and never shows a password", function()
    ok [[
      local function refused(...) return select(2, pcall(mp.Manager, ...)) end
      matches(refused("http://u:secret@h"), "'http://h' is no URL of a server: it must begin with redis://")
      matches(refused("redis://u:secret@h:99999"), "it has no host and port")
      matches(refused("redis://h:1/x"), "the database must be a number")
      matches(refused("unix://path"), "unix:///path expected")
      matches(refused(7), "bad argument #1 to 'Manager'")
      matches(refused(URL, { lease = 1 }), "option 'lease' must be a number of seconds from 2 to 600, got 1")
      matches(refused(URL, { namespace = "a b" }), "option 'namespace' must be letters")
      matches(refused(URL, { nonsense = 1 }), "unknown option 'nonsense'")
      local e = refused("redis://u:secret@127.0.0.1:1/0")
      eq(e.kind, "disconnected")
      matches(e.message, "cannot connect to redis://127.0.0.1:1/0: ")
      eq(e.message:find("secret", 1, true), nil)
    ]]
  end)

  it("gives handles that arrive in processes of every start method, and in remote objects", function()
    ok [[
      local d = m:dict("d", { x = 1 })
      for _, method in ipairs(mp.get_all_start_methods()) do
        local q = mp.Queue()
        local p = mp.get_context(method).Process(function(into, dict, lock)
          into:put{ dict.x, lock:acquire(), dict, lock.fence > 0 }
          lock:release()
        end, q, d, m:Lock("l"))
        p:start()
        local got = q:get()
        eq({ got[1], got[2], got[3] == d, got[4] }, { 1, true, true, true })
        p:join()
      end
      d.me = { d, lock = m:Lock "l" }
      eq({ d.me[1] == d, d.me.lock == m:Lock "l", d.me[1].x }, { true, true, 1 })
    ]]
  end)

  it("refuses shared objects, functions and wrong names", function()
    ok [[
      local d = m:dict "d"
      raises("value.a: cannot send a shared object", function() d.x = { a = mp.Lock() } end)
      raises("value: cannot send a function", function() d.x = print end)
      raises("the name of an object must be a string", function() m:dict(5) end)
      raises("1 to 255 bytes", function() m:dict "" end)
      raises("the manager is shut down", function() m:shutdown() m:dict "x" end)
    ]]
  end)
end)

describe("a remote dict", function()
  it("does what a dict does", function()
    ok [[
      local d = m:dict "d"
      eq({ #d, d.x, d:get("x", 5) }, { 0, nil, 5 })
      d.x, d[1.0], d[true], d[1.5] = 1, "one", { 1, 2, { a = 3 } }, 0.5
      d["s\0"] = math.mininteger
      eq({ d.x, d[1], d[true][3].a, d[1.5], d["s\0"], #d }, { 1, "one", 3, 0.5, math.mininteger, 5 })
      eq({ d:incr "x", d:incr("x", 0.5), d:incr("new", 5), d:incr("new", -6) }, { 2, 2.5, 5, -1 })
      eq({ math.type(d.new), math.type(d.x) }, { "integer", "float" })
      raises("the value is a string, not a number", function() d:incr(1) end)
      raises("'keys' is a method", function() d.keys = 1 end)
      raises("a key must be a string, number or boolean, got NaN", function() d[0 / 0] = 1 end)
      raises("a key must be", function() return d[{}] end)
      eq({ d:pop "x", d:pop "x", d:pop("x", "none"), d:has "x" }, { 2.5, nil, "none", false })
      eq({ d:setdefault("q", 7), d:setdefault("q", 8) }, { 7, 7 })
      eq(d:modify("q", function(v) return v * 2 end), 14)
      eq(d:modify("q", function() return nil end), nil)
      eq(d:has "q", false)
      d:update{ a = 1, b = { 2 } }
      local copy = d:copy()
      eq({ copy.a, copy.b[1], copy[1] }, { 1, 2, "one" })
      local seen = 0
      for k, v in pairs(d) do seen = seen + 1 if type(v) ~= "table" then eq(d[k], v) end end
      eq({ seen, #d:keys(), #d:values(), #d:items() }, { #d, #d, #d, 7 })
      d:clear()
      eq({ #d, d:popitem() }, { 0 })
      d.k = nil
    ]]
  end)

  it("adds and modifies as one step among processes", function()
    ok [[
      local d = m:dict "d"
      local all = {}
      for i = 1, 3 do
        all[i] = mp.Process(function()
          for j = 1, 200 do
            d:incr "n"
            d:modify("m", function(v) return (v or 0) + 1 end)
          end
        end)
        all[i]:start()
      end
      for _, p in ipairs(all) do p:join() end
      eq({ d.n, d.m }, { 600, 600 })
    ]]
  end)

  it("writes under the guard of a lock only while it is held", function()
    ok [[
      local d, l = m:dict "d", m:Lock "l"
      raises("the lock that guards it is not held", function() d:set("k", 1, { guard = l }) end)
      l:acquire()
      d:set("k", 1, { guard = l })
      l:release()
      raises("is not held", function() d:set("k", 2, { guard = l }) end)
      raises("option 'guard' must be a Lock", function() d:set("k", 2, { guard = 7 }) end)
      eq(d.k, 1)
    ]]
  end)
end)

describe("a remote lock", function()
  it("is acquired and released in turn", function()
    ok [[
      local l = m:Lock "l"
      eq({ l:acquire(), l:locked(), m:Lock "l":locked() }, { true, true, true })
      eq({ l:acquire(0) }, { nil, "timeout" })
      eq({ l:acquire(0.05) }, { nil, "timeout" })
      local order, tasks = {}, {}
      for i = 1, 5 do
        tasks[i] = co.spawn(function()
          l:acquire()
          order[#order + 1] = i
          l:release()
        end)
        co.sleep(0.02) -- each joins the line after the one before
      end
      local first = l.fence
      l:release()
      co.joinall(tasks)
      eq(order, { 1, 2, 3, 4, 5 })
      eq(l:locked(), false)
      raises("Lock:release: the lock is not held", function() l:release() end)
      l:acquire()
      eq(l.fence > first, true)
      l:release()
      do local g <close> = l:guard() eq(l:locked(), true) end
      eq({ l:with(function() return l:locked() end), l:locked() }, { true, false })
    ]]
  end)

  it("goes to the next when a waiting task is cancelled", function()
    ok [[
      local l = m:Lock "l"
      l:acquire()
      local cancelled = co.spawn(function() l:acquire() end)
      co.sleep(0.05)
      local t = co.spawn(function() return l:acquire() end)
      co.sleep(0.05)
      cancelled:kill()
      cancelled:join()
      l:release()
      eq(t:get(5), true)
    ]]
  end)

  it("excludes the others, over processes", function()
    ok [[
      local l, d = m:Lock "l", m:dict "d"
      d.n = 0
      local all = {}
      for i = 1, 3 do
        all[i] = mp.Process(function()
          for j = 1, 100 do l:with(function() d.n = d.n + 1 end) end
        end)
        all[i]:start()
      end
      for _, p in ipairs(all) do p:join() end
      eq(d.n, 300)
    ]]
  end)

  it("tells the next owner that the last one died, after its lease", function()
    ok [[
      killed(function() m:Lock "l":acquire() end)
      eq({ m:Lock "l":acquire(10) }, { true, "owner_died" })
      m:Lock "l":release()
      eq({ m:Lock "l":acquire() }, { true })
    ]]
  end)

  it("stays with a program that computes for longer than its lease", function()
    ok [[
      local l = m:Lock "l"
      l:acquire()
      local p = mp.Process(function() return os.exit(m:Lock "l":acquire(3.5) and 1 or 0) end)
      p:start()
      local till = mp.now() + 4
      while mp.now() < till do end
      p:join()
      eq(p.exitcode, 0)
      l:release()
    ]]
  end)

  it("is held by levels as an RLock", function()
    ok [[
      local l = m:RLock "l"
      eq({ l:acquire(), l:acquire() }, { true, true })
      local t = co.spawn(function()
        local got, why = l:acquire(0)
        local released, err = pcall(l.release, l)
        return got, why, released, err
      end)
      local got, why, released, err = t:get()
      eq({ got, why, released }, { nil, "timeout", false })
      matches(err, "the lock is not held by this task")
      l:release()
      eq(l:locked(), true)
      l:release()
      eq(l:locked(), false)
      raises("RLock:release: the lock is not held by this task", function() l:release() end)
    ]]
  end)
end)
