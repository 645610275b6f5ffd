-- What a dump tells of tasks: made in pieces while the program goes on, and what each task waits for.
local support = require "spec.support"
local look = require "spec.support.look"
local shell, quote = support.shell, support.quote
local with_program, mpengine, says, json = look.with_program, look.mpengine, look.says, look.json

local READY <const> = "io.stdout:write('ready\\n') io.stdout:flush()\n"
-- Says so once the main chunk waits, and all tasks.
local WAITS <const> = "co.spawn(function() co.sleep(0) " .. READY:gsub("\n$", "") .. " end)\n"

local function dump(pid, ...)
  local r = mpengine("dump", tostring(pid), ...)
  assert.equal("", r.stderr)
  assert.equal(0, r.status)
  return r.stdout
end

-- Has this process make its answers in pieces of a few tasks each; `seen` has what `turns` was at each piece,
-- and `made` is set when the answer is whole.
local IN_PIECES <const> = [[
  local answer = require "mpengine.look.answer"
  answer.SLICE = 0
  local turns, seen, made = 0, {}, false
  local begin = answer.handlers.dump
  function answer.handlers.dump(text)
    local step = begin(text)
    return function()
      seen[#seen + 1] = turns
      local bytes, more = step()
      made = not more
      return bytes, more
    end
  end
  local function grew()
    for i = 2, #seen do
      if seen[i] <= seen[i - 1] then return "held at piece " .. i .. " of " .. #seen end
    end
    return #seen > 40 and "goes on" or "few pieces: " .. #seen
  end
]]

local MANY <const> = [[
  local e = co.Event{ name = "never" }
  local function wait() e:wait() end
  for i = 1, 400 do co.spawn(wait) end
]]

describe("a dump of many tasks", function()
  it("is made in pieces, and the other tasks run between two", function()
    with_program(IN_PIECES .. MANY .. [[
      co.spawn(function()
        while not made do turns = turns + 1 co.sleep(0) end
        io.stdout:write(grew(), "\n") io.stdout:flush()
      end)
    ]] .. READY .. "mp.sleep(1000)", function(pid, _, _, pipe)
      local process = json(dump(pid, "--json")).processes[1]
      local ids = {}
      for _, task in ipairs(process.tasks) do
        assert.is_nil(ids[task.id])
        ids[task.id] = true
      end
      assert.equal(402, #process.tasks)
      assert.equal("goes on", pipe:read())
    end)
  end)

  it("is made between the instructions of an endless loop", function()
    with_program(IN_PIECES .. MANY .. "co.sleep(0)\n" .. READY .. [[
      while not made do turns = turns + 1 end
      io.stdout:write(grew(), "\n") io.stdout:flush()
      mp.sleep(1000)
    ]], function(pid, _, _, pipe)
      says(dump(pid), "400 tasks wait: waits for mp.co.Event 'never'", "task main #1: running")
      assert.equal("goes on", pipe:read())
    end)
  end)

  it("leaves out what starts meanwhile, and what has ended", function()
    with_program(IN_PIECES .. MANY .. [[
      co.spawn(function()
        while not made do
          turns = turns + 1
          if #seen == 5 then e:set() end
          co.spawn(wait)
          co.sleep(0)
        end
      end)
    ]] .. READY .. "mp.sleep(1000)", function(pid)
      local ids, count = {}, 0
      for _, task in ipairs(json(dump(pid, "--json")).processes[1].tasks) do
        assert.is_nil(ids[task.id])
        ids[task.id], count = true, count + 1
      end
      assert.truthy(count > 20 and count < 401, count)
    end)
  end)

  it("is dropped when its reader ends in the middle", function()
    with_program(IN_PIECES .. MANY .. [[
      co.spawn(function() while true do turns = turns + 1 co.sleep(0) end end)
    ]] .. READY .. "mp.sleep(1000)", function(pid, dir)
      local function open_files() return shell(("ls /proc/%d/fd | wc -l"):format(pid)) end
      local before = open_files()
      support.write_file(dir .. "/reader.lua", [[
        local mp, core, look = require "mpengine", require "mpengine.core", require "mpengine.look"
        local program = assert(look.program(tonumber(arg[1])))
        local question = core.ask(program.view, program.processes[1].slot, "dump ")
        assert(core.wait_fd(question:descriptor(), "r", 10))
        assert(question:news() == "begun")
        print "ends"
      ]])
      local out = shell((support.limit .. " %s %s/reader.lua %d"):format(quote(support.command), quote(dir), pid))
      assert.equal("ends\n", out)
      assert.is_true(support.eventually(function() return open_files() == before end))
      says(dump(pid), "400 tasks wait: waits for mp.co.Event 'never'")
    end)
  end)

  it("groups those that are alike, and shows by itself one that holds something", function()
    with_program([[
      local lock = mp.Lock{ name = "till" }
      local e = co.Event{ name = "never" }
      local function wait(takes) if takes then lock:acquire() end e:wait() end
      for i = 1, 50 do co.spawn(wait, i == 20) end
    ]] .. WAITS .. "mp.sleep(1000)", function(pid)
      local text = dump(pid)
      says(text, "49 tasks wait: waits for mp.co.Event 'never'", "holds mp.Lock 'till'")
      assert.truthy(text:find("task wait #%d+: waits for mp.co.Event 'never'[^\n]*\n      holds mp.Lock 'till'"))
    end)
  end)

  it("has each of many that wait for one object", function()
    with_program([[
      local q, kept = mp.Queue{ name = "jobs" }, {}
      local function get() q:get() end
      for i = 1, 30 do kept[i] = co.spawn(get) end
    ]] .. WAITS .. "mp.sleep(1000)", function(pid)
      says(dump(pid), "30 tasks get: waits for mp.Queue",
        "waited for by 30 tasks get of MainProcess (pid " .. pid .. ")")
      local d = json(dump(pid, "--json"))
      assert.equal("jobs", d.objects[1].name)
      local ids = {}
      for _, waiter in ipairs(d.objects[1].waiting) do
        assert.equal("get", waiter.task)
        assert.truthy(waiter.seconds >= 0)
        ids[#ids + 1] = waiter.id
      end
      local expected = {}
      for _, task in ipairs(d.processes[1].tasks) do
        if task.name == "get" then expected[#expected + 1] = task.id end
      end
      assert.equal(30, #ids)
      assert.same(expected, ids)
    end)
  end)

  it("asks few objects of the script for their own words", function()
    with_program([[
      local pool = mp.Pool(1)
      local e = mp.Event()
      local function work() e:wait() end
      for i = 1, 1200 do
        local result = pool:apply_async(work)
        co.spawn(function() result:get() end)
      end
    ]] .. WAITS .. "mp.sleep(1000)", function(pid)
      local count = 0
      for _, task in ipairs(json(dump(pid, "--json")).processes[1].tasks) do
        if task.waits_for:find("mp.AsyncResult", 1, true) then count = count + 1 end
      end
      assert.equal(1200, count)
    end)
  end)
end)

describe("a wait inside one process", function()
  local function waits_of(pid)
    local waits = {}
    for _, task in ipairs(json(dump(pid, "--json")).processes[1].tasks) do waits[task.name] = task end
    return waits
  end

  it("tells the kind of what is waited for, and its name or the place where it was made", function()
    with_program("\n" .. [[
      local function task(name, f) co.spawn(f).name = name end
      local q, full, lock = co.Queue{ name = "jo'bs" }, co.Queue{ maxsize = 1 }, co.Lock()
      local joined, sem = co.JoinableQueue{ name = "j" }, co.Semaphore{ value = 0, name = "permits" }
      local r, cond = co.AsyncResult(), co.Condition{ name = "changed" }
      full:put(1) lock:acquire() joined:put(1)
      task("get", function() q:get() end)
      task("put", function() full:put(2) end)
      task("lock", function() lock:acquire() end)
      task("join", function() joined:join() end)
      task("sem", function() sem:acquire() end)
      task("result", function() r:get() end)
      task("cond", function() cond:acquire() cond:wait() end)
      task("any", function() co.wait({ q, sem }, nil, 1) end)
      task("sleep", function() co.sleep(1000) end)
    ]] .. WAITS .. "co.Event():wait()", function(pid)
      local waits = waits_of(pid)
      local function of(name) return waits[name].waits_for end
      assert.equal("mp.co.Queue 'jo\\'bs'", of "get")
      assert.equal("mp.co.Queue made at script.lua:3", of "put")
      assert.equal("mp.co.Lock made at script.lua:3", of "lock")
      assert.equal("mp.co.JoinableQueue 'j'", of "join")
      assert.equal("mp.co.Semaphore 'permits'", of "sem")
      assert.equal("mp.co.AsyncResult made at script.lua:5", of "result")
      assert.equal("mp.co.Condition 'changed'", of "cond")
      assert.equal("any of 2 things: mp.co.Queue 'jo\\'bs', mp.co.Semaphore 'permits'", of "any")
      assert.equal("the end of its sleep", of "sleep")
      assert.equal("mp.co.Event made at script.lua:17", of "main")
      assert.equal("main", waits.lock.holder.task)
      assert.is_nil(waits.get.holder)
    end)
  end)

  it("tells which task holds a lock, also one that got it by a release", function()
    with_program([[
      local lock, rlock, e = co.Lock{ name = "l" }, co.RLock{ name = "r" }, co.Event()
      local function task(name, f) co.spawn(f).name = name end
      lock:acquire()
      task("heir", function() lock:acquire() rlock:acquire() e:wait() end)
      co.sleep(0)
      task("last", function() lock:acquire() end)
      co.sleep(0)
      lock:release()
      co.sleep(0)
      task("other", function() rlock:acquire() end)
    ]] .. WAITS .. "mp.sleep(1000)", function(pid)
      local waits = waits_of(pid)
      assert.equal("heir", waits.last.holder.task)
      assert.equal(waits.heir.id, waits.last.holder.id)
      assert.equal("heir", waits.other.holder.task)
      says(dump(pid), "waits for mp.co.Lock 'l' for", ", which depends on heir of MainProcess")
    end)
  end)

  local function marked(code, ...)
    local parts = { ... }
    with_program(code, function(pid)
      local text = dump(pid)
      says(text, "! tasks wait for each other: ", table.unpack(parts))
      local marks = json(dump(pid, "--json")).marks
      assert.equal(1, #marks)
      assert.equal("cycle", marks[1].kind)
    end)
  end

  it("is marked when tasks hold two locks in opposite order", function()
    marked([[
      local a, b = co.Lock{ name = "a" }, co.RLock{ name = "b" }
      local function one() a:acquire() co.sleep(0) b:acquire() end
      local function two() b:acquire() co.sleep(0) a:acquire() end
      co.spawn(one) co.spawn(two)
      co.sleep(0) co.sleep(0)
    ]] .. WAITS .. "mp.sleep(1000)", "one of MainProcess", "two of MainProcess",
      "for mp.co.RLock 'b', which depends on two", "for mp.co.Lock 'a', which depends on one")
  end)

  it("is marked when a task joins, among others, one that waits for it", function()
    marked([[
      local lock, tasks = co.Lock{ name = "kept" }, {}
      local function child() lock:acquire() end
      local function parent()
        lock:acquire()
        co.joinall { co.spawn(co.sleep, 1000), co.spawn(child), co.spawn(co.sleep, 1000) }
      end
      co.spawn(parent)
      co.sleep(0) co.sleep(0)
    ]] .. WAITS .. "mp.sleep(1000)", "parent of MainProcess", "for the ends of 3 tasks", "child of MainProcess",
      "for mp.co.Lock 'kept', which depends on parent")
  end)

  it("is marked when a scope waits for a task that waits for it", function()
    marked([[
      local lock = co.Lock{ name = "kept" }
      local function child() lock:acquire() end
      local function parent()
        lock:acquire()
        co.scope(function(s) s:spawn(child) end)
      end
      co.spawn(parent)
      co.sleep(0) co.sleep(0)
    ]] .. WAITS .. "mp.sleep(1000)", "parent of MainProcess", "for mp.Scope", "child of MainProcess")
  end)

  it("is part of cycles across processes", function()
    with_program([[
      local shared = mp.Lock{ name = "shared" }
      local ready, own = mp.Barrier(2), co.Lock{ name = "own" }
      local p = mp.Process{ name = "other", target = function()
        local own = co.Lock{ name = "its own" }
        local function holder() own:acquire() shared:acquire() end
        shared:acquire()
        ready:wait()
        co.sleep(1000)
      end }
      p:start()
      ready:wait()
      local function holder() own:acquire() p:join() end
      co.spawn(holder)
      co.sleep(0)
      local function waiter() own:acquire() end
      co.spawn(waiter)
    ]] .. WAITS .. "mp.sleep(1000)", function(pid)
      says(dump(pid), "task waiter", "waits for mp.co.Lock 'own'", "which depends on holder of MainProcess",
        "which depends on main of other")
    end)
  end)

  it("is no cycle when one of several things is enough", function()
    with_program([[
      local q = co.Queue{ name = "q" }
      local function waiter(other) co.wait({ other, q }, nil, 1) end
      local a, b
      a = co.spawn(function() co.sleep(0) waiter(b) end)
      b = co.spawn(function() co.sleep(0) waiter(a) end)
      co.sleep(0) co.sleep(0)
    ]] .. WAITS .. "mp.sleep(1000)", function(pid) assert.same({}, json(dump(pid, "--json")).marks) end)
  end)
end)

describe("objects of mp.co", function()
  it("take a name", function()
    support.ok [[
      local co = mp.co
      local function shows(object, text) eq(tostring(object):gsub(": %d+", ": N"), text) end
      shows(co.Queue{ name = "q" }, "mp.co.Queue: N 'q' (0 items)")
      shows(co.Queue{ maxsize = 2, name = "q" }, "mp.co.Queue: N 'q' (0 of 2 items)")
      shows(co.JoinableQueue{ name = "q" }, "mp.co.JoinableQueue: N 'q' (0 items)")
      shows(co.SimpleQueue{ name = "q" }, "mp.co.Queue: N 'q' (0 items)")
      shows(co.Event{ name = "e" }, "mp.co.Event: N 'e' (not set)")
      shows(co.AsyncResult{ name = "a" }, "mp.co.AsyncResult: N 'a' (not ready)")
      shows(co.Lock{ name = "l\n" }, "mp.co.Lock: N 'l\\n' (free)")
      shows(co.RLock{ name = "l" }, "mp.co.RLock: N 'l' (free)")
      shows(co.Semaphore{ value = 3, name = "s" }, "mp.co.Semaphore: N 's' (value 3)")
      shows(co.BoundedSemaphore{ name = "s" }, "mp.co.BoundedSemaphore: N 's' (value 1)")
      shows(co.Condition{ lock = co.Lock(), name = "c" }, "mp.co.Condition: N 'c' (lock free)")
      eq(tostring(co.Group{ name = "g" }), "mp.co.Group: 'g' 0 tasks")
      eq(tostring(co.Pool{ size = 2, name = "p" }), "mp.co.Pool: 'p' 0 tasks")
      eq(co.Pool{ size = 2 }:free_count(), 2)
      shows(co.Queue(3), "mp.co.Queue: N (0 of 3 items)")
    ]]
  end)

  it("refuse other fields, and names that are no strings", function()
    support.ok [[
      local function refuses(text, make, fields)
        local good, err = pcall(make, fields)
        assert(not good and tostring(err):find(text, 1, true), err)
      end
      refuses("co.Queue: unknown field 'size' (maxsize, name expected)", mp.co.Queue, { size = 1 })
      refuses("co.Lock: unknown field 'value' (name expected)", mp.co.Lock, { value = 1 })
      refuses("co.Event: field 'name': a string expected, got number", mp.co.Event, { name = 1 })
      refuses("number of tasks must be an integer, 1 or more, got 0", mp.co.Pool, { size = 0 })
    ]]
  end)

  it("of a pool without a number of tasks has room for any number", function()
    support.ok [[
      local pool = mp.co.Pool()
      for i = 1, 100 do pool:spawn(mp.co.sleep, 0) end
      pool:join()
    ]]
  end)
end)
