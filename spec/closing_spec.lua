-- The library while its Lua state is being closed, and after: os.exit(code, true), the end of stock
-- Lua, finalizers that are older or newer than the library. Also the library when it is required
-- again.
local support = require "spec.support"
local run, prints, ok, quote, shell = support.run, support.prints, support.ok, support.quote, support.shell

local function exits(status, stdout, code, opts)
  local r = run(code, opts)
  assert.same({ status, stdout, "" }, { r.status, r.stdout, r.stderr })
end

-- Calls of every kind, by what they need: objects and tasks made before, and new ones.
local CALLS = [=[
  local co = mp.co
  local q, jq, lock, rlock, sem = mp.Queue(), mp.JoinableQueue(), mp.Lock(), mp.RLock(), mp.Semaphore(2)
  local ev, cond, barrier, dict, list = mp.Event(), mp.Condition(), mp.Barrier(1), mp.Dict{ a = 1 }, mp.List{ 1 }
  local arr, val, a, b = mp.Array("i", 4), mp.Value("d", 1), mp.Pipe()
  local p, task = mp.Process(function() end), co.spawn(function() co.sleep(100) end)
  local cq, cl, ce, cs, cr, cg, cp, loc = co.Queue(), co.Lock(), co.Event(), co.Semaphore(), co.AsyncResult(),
    co.Group(), co.Pool(2), co.Local()
  local pool = mp.Pool(1)
  CALLS = {
    function() q:put(1) return q:get(0) end, function() return tostring(q), q:qsize() end, function() q:close() end,
    function() jq:put(1) jq:get(0) jq:task_done() jq:join(0) end,
    function() for _ in q:iter() do break end end,
    function() lock:acquire(0) lock:release() end, function() local g <close> = lock:guard(0) end,
    function() rlock:acquire(0) rlock:release() end, function() sem:acquire(0) sem:release() end,
    function() ev:set() ev:wait(0) end, function() cond:acquire(0) cond:notify() cond:wait(0) cond:release() end,
    function() barrier:wait(0) end, function() dict.x = 1 return dict.a, #dict end, function() dict:incr("n") end,
    function() for _ in pairs(dict) do break end end, function() dict:modify("a", function(v) return v end) end,
    function() list:append(1) return list[1], #list end, function() list:sort() end,
    function() arr[1] = 2 return arr[1], #arr, arr:totable(), arr:add(1, 1) end,
    function() val.value = val.value + 1 end,
    function() a:send(1) return b:recv(0) end, function() return b:poll(), tostring(a) end, function() a:close() end,
    function() return tostring(p), p.name, p:is_alive() end, function() p:start() p:join(0) end,
    function() return mp.current_process().name, mp.active_children() end,
    function() task:join(0) end, function() task:kill() end, function() return tostring(task), task:ready() end,
    function() co.spawn(print):kill() end, function() co.sleep(0.001) end, function() co.with_timeout(0, print) end,
    function() co.scope(function(s) s:spawn(function() end) end) end, function() return co.current() end,
    function() cq:put(1) return cq:get(0) end,
    function() cl:acquire(0) cl:release() end, function() ce:set() ce:wait(0) end,
    function() cs:acquire(0) cs:release() end, function() cr:set(1) return cr:get(0) end,
    function() cg:spawn(print):kill() end,
    function() cp:map(tostring, { 1 }) end, function() loc.x = 1 return loc.x end,
    function() pool:apply(function() end) end, function() pool:terminate() pool:join() end,
    function() return mp.Queue(), mp.Dict{ 1 }, mp.List(), mp.Pipe(), mp.Array("i", 1), mp.Event(), mp.Barrier(2) end,
    function() local new <close> = mp.Pool(1) end,
    function() return mp.codec.decode(mp.codec.encode({ 1, mp.Queue })) end,
    function() mp.wait({ q }, 0) end, function() return mp.stats() end,
    function() co.offload(function() end) end, function() mp.subprocess.run{ "true" } end, function() mp.now() end,
    function() mp.signal("USR1") end, function() return mp.Manager():dict(), mp.get_context("fork").Lock() end,
    function() require "mpengine.stats" return require "mpengine" end, function() return q == lock, { [q] = 1 } end,
    function() local f = io.popen("echo x") local x = f:read("a") f:close() assert(x == "x\n") end,
    function() os.execute("true") io.write("") io.stdout:flush() io.stderr:write("") print() end,
    function() assert(coroutine.wrap(function() coroutine.yield(1) end)() == 1) end,
  }
]=]
local RUN = [[
  function RUN()
    for i, f in ipairs(CALLS or {}) do
      local good, err = pcall(f)
      local told = WANTED and tostring(err):find(WANTED, 1, true)
      if not good and not told then io.stdout:write(i, ": ", tostring(err), "\n") end
    end
    io.stdout:write("all called\n")
  end
]]

describe("os.exit(code, true)", function()
  it("runs close handlers and finalizers with a library that works, and exits with the code", function()
    exits(7, "close\nlocked\nput 1\nfinal\n", [[
      local q, lock = mp.Queue(), mp.Lock()
      setmetatable({}, { __gc = function() io.write("final\n") end })
      local x <close> = setmetatable({}, { __close = function()
        print "close"
        lock:acquire() print(lock:locked() and "locked") lock:release()
        q:put(1) print("put " .. q:get())
      end })
      os.exit(7, true)]])
  end)

  it("terminates an open pool, and kills the tasks that have not ended", function()
    exits(3, "cleaned up\n", [[
      local pool <close> = mp.Pool(2)
      pool:apply_async(function() mp.sleep(100) end)
      mp.co.spawn(function()
        local c <close> = setmetatable({}, { __close = function() mp.sleep(0.01) print "cleaned up" end })
        mp.sleep(100)
      end)
      mp.co.sleep(0)
      os.exit(3, true)]])
  end)

  it("waits for the children that are not daemons, after the close handlers", function()
    exits(4, "close\nchild\n", [[
      local e = mp.Event()
      P(function() e:wait() print "child" end)
      local x <close> = setmetatable({}, { __close = function() print "close" e:set() end })
      os.exit(4, true)]])
  end)

  for where, code in pairs{
    ["a task"] = "mp.co.spawn(function() os.exit(5, true) end):join()",
    ["a coroutine"] = "coroutine.wrap(function() os.exit(5, true) end)()",
    ["a coroutine of a task"] = "mp.co.spawn(function() coroutine.wrap(function() os.exit(5, true) end)() end):join()",
    ["a scope with a time limit"] = "mp.co.with_timeout(10, function() os.exit(5, true) end)",
    ["a protected call"] = "pcall(os.exit, 5, true)",
    ["a sort"] = "table.sort({ 1, 2 }, function() os.exit(5, true) end)",
  } do
    it("works in " .. where, function()
      exits(5, "close\nall called\n", CALLS .. RUN .. [[
        local x <close> = setmetatable({}, { __close = function() print "close" end })
        setmetatable({}, { __gc = function() CALLS = nil RUN() end })
        ]] .. code)
    end)
  end

  for _, method in ipairs{ "fork", "spawn", "forkserver" } do
    it("ends a child of " .. method .. " and a pool's worker with the code", function()
      ok([[
        mp.set_start_method("]] .. method .. [[")
        local q = mp.Queue()
        local p = P(function()
          local c <close> = setmetatable({}, { __close = function() q:put(1) end })
          setmetatable({}, { __gc = function() q:put(2) end })
          os.exit(6, true)
        end)
        p:join() eq(p.exitcode, 6)
        local pool <close> = mp.Pool(1)
        local err = select(2, pcall(pool.apply, pool, function() os.exit(8, true) end))
        eq(err.kind, "worker_died") eq(err.exitcode, 8)
        eq(pool:apply(function() return 1 end), 1)]])
    end)
  end

  it("allows calls of every kind in a finalizer", function()
    local r = run(CALLS .. RUN .. [[ setmetatable({}, { __gc = RUN }) os.exit(9, true)]])
    assert.equal(9, r.status, r.stdout .. r.stderr)
    assert.truthy(r.stdout:find("all called", 1, true), r.stdout)
  end)
end)

describe("a finalizer that is older than the library", function()
  local OLDER = RUN .. [[ OLDER = setmetatable({}, { __gc = function() RUN() ]]
  for how, code in pairs{
    ["at the end of the script"] = "",
    ["after os.exit(0, true)"] = "os.exit(0, true)",
    ["after os.exit(0, true) in a task"] = "mp.co.spawn(function() os.exit(0, true) end):join()",
  } do
    it("gets the error that the library is closed, " .. how, function()
      local r = run(OLDER .. [[ end })
        WANTED = "closed"
        local mp = require "mpengine"]] .. CALLS .. code, { mode = "stock", plain = true })
      assert.equal(0, r.status, r.stdout .. r.stderr)
      assert.equal("\nall called\n", r.stdout, r.stderr)
    end)
  end

  it("has the functions of Lua that the library has replaced", function()
    local r = run([[
      OLDER = setmetatable({}, { __gc = function()
        print("print", 1) io.write("write\n") io.stdout:write("method\n") io.stderr:write("error\n")
        io.stdout:setvbuf("no") io.stdout:flush() io.flush()
        print(coroutine.wrap(function(x) return coroutine.yield(x) end)("yield"))
        print(coroutine.resume(coroutine.create(error), "raised"))
        print(coroutine.status(coroutine.create(print)), select(2, coroutine.running()),
          coroutine.close(coroutine.create(print)))
        print(require "string" == string, pcall(require, "no.such"))
        os.exit(3)
      end })
      local mp = require "mpengine"
      mp.Queue():put(1)
      print "end of script"]], { mode = "stock", plain = true })
    assert.equal(3, r.status)
    assert.equal("error\n", r.stderr)
    assert.truthy(r.stdout:find("^end of script\nprint\t1\nwrite\nmethod\nyield\nfalse\traised\n" ..
      "suspended\ttrue\ttrue\ntrue\tfalse\tmodule 'no.such' not found"), r.stdout)
  end)
end)

describe("the library that is required again", function()
  local FORGET = [[
    local kept = {}
    for k, v in pairs(package.loaded) do kept[k] = v end
    local old_print, old_require = print, require
    local first = require "mpengine"
    local q, d = first.Queue(), first.Dict()
    first.co.spawn(print):kill()
    local pool = first.Pool(1)
    local function forget()
      for k in pairs(package.loaded) do package.loaded[k] = kept[k] end
      print, require = old_print, old_require
    end]]
  for _, mode in ipairs{ "command", "stock" } do
    it("is the same one, when package.loaded and the globals are as before: " .. mode, function()
      exits(0, "same\n4\n", FORGET .. [[
        for _ = 1, 3 do
          forget()
          local mp = require "mpengine"
          assert(mp == first and mp.Queue == first.Queue and require "mpengine.co" == first.co)
          assert(require "mpengine.core" == require "mpengine.core" and require "mpengine.codec" == mp.codec)
          assert(package.loaded["mp.Queue"].put == q.put)
          local p = mp.Process(function(put, v) put(q, v) end, q.put, 1)
          p:start() p:join()
          assert(p.exitcode == 0 and q:get(0) == 1)
          assert(pool:apply(math.abs, { -4 }) == 4)
          forget()
          local another <close> = require("mpengine").Pool(1) -- its worker is a function of a module
          assert(another:apply(function() return mp.cpu_count() end) == mp.cpu_count())
        end
        print "same"
        local ok, err = pcall(d.incr, d, "n", "x")
        assert(not ok and err:find("incr", 1, true), err)
        print(require("mpengine").co.spawn(function() require("mpengine").sleep(0.001) return 4 end):get())]],
        { mode = mode, plain = true })
    end)
  end

  it("is not made twice by a module of it that was taken away", function()
    exits(4, "", [[
      local co, process = require "mpengine.co", require "mpengine.process"
      package.loaded["mpengine.process"], package.loaded["mpengine.co"] = nil, nil
      assert(require "mpengine.process" == process and require "mpengine.co" == co)
      package.loaded["mpengine.core"], package.loaded["mpengine.process"] = nil, nil
      P(function() end)
      os.exit(4)]])
  end)

  it("waits for its children, whatever is in package.loaded", function()
    prints("child\n", [[
      local e = mp.Event()
      P(function() e:wait() print "child" end)
      for k in pairs(package.loaded) do if k:find("mpengine") then package.loaded[k] = nil end end
      e:set()]])
  end)

  it("runs under busted, which restores package.loaded before each spec file", function()
    local dir = shell("mktemp -d"):gsub("\n$", "")
    for i = 1, 3 do
      support.write_file(("%s/%d_spec.lua"):format(dir, i), ([[
        local mp = require "mpengine"
        describe("file %d", function()
          it("shares a queue", function()
            local q = mp.Queue()
            local p = mp.Process(function() q:put(%d) end)
            p:start() p:join()
            assert.equal(%d, q:get(1))
          end)
          it("fails", function() assert.equal(1, mp.co.spawn(function() return %d end):get()) end)
          it("raises", function() error("raised here") end)
        end)]]):format(i, i, i, i))
    end
    local function busted(interpreter)
      return shell(("cd %s; busted --lua=%s -o TAP . 2>&1; echo status $?"):format(quote(dir), quote(interpreter)))
    end
    local want, got = busted("lua5.4"), busted(support.command)
    shell("rm -r " .. quote(dir))
    support.skip_without_library(got)
    assert.equal(want, got)
    assert.truthy(got:find("not ok", 1, true) and got:find("raised here", 1, true), got)
    assert.truthy(got:find("status 1\n", 1, true), got)
  end)
end)
