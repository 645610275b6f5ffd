-- Looking into programs from outside: real programs that hang, compute, block, are stopped or die.
local support = require "spec.support"
local look = require "spec.support.look"
local quote, shell = support.quote, support.shell
local with_program, mpengine, says, json = look.with_program, look.mpengine, look.says, look.json

-- Sends SIGSTOP, and returns once the kernel says of each that it is stopped.
local function stop_by_signal(...)
  for _, pid in ipairs { ... } do
    shell(("kill -STOP %d"):format(pid))
    assert.is_true(support.eventually(function()
      return support.read_file(("/proc/%d/stat"):format(pid)):find("%) T ") ~= nil
    end))
  end
end

local function dump(pid, ...)
  local r = mpengine("dump", tostring(pid), ...)
  assert.equal("", r.stderr)
  assert.equal(0, r.status)
  return r.stdout
end

local HANG <const> = [[
  local a, b, ready = mp.Lock{ name = "till" }, mp.Lock{ name = "safe" }, mp.Barrier(2)
  local function transfer(first, second)
    first:acquire()
    ready:wait()
    second:acquire()
  end
  co.spawn(function() co.sleep(1000) end)
  local p = mp.Process{ target = function() co.spawn(co.sleep, 1000) transfer(b, a) end, name = "teller" }
  p:start()
  co.spawn(function() io.stdout:write("ready\n") io.stdout:flush() end)
  transfer(a, b)
]]

local READY <const> = "io.stdout:write('ready\\n') io.stdout:flush()\n"
-- Says so once the main chunk waits.
local WAITS <const> = "co.spawn(function() " .. READY:gsub("\n$", "") .. " end)\n"

describe("mpengine ps", function()
  it("lists the programs that run, with their scripts and numbers", function()
    with_program("local q = mp.Queue() local p = mp.Process(function() q:get() end) p:start()\n" .. READY
      .. "mp.sleep(1000)", function(pid)
        local line, processes, objects
        for _ = 1, 200 do -- until the child is there
          local r = mpengine "ps"
          assert.equal(0, r.status)
          assert.equal("", r.stderr)
          line = r.stdout:match("\n(%s*" .. pid .. " [^\n]*)")
          assert.truthy(line, r.stdout)
          processes, objects = line:match("^%s*%d+%s+(%d+)%s+%d+%s+(%d+)")
          if processes == "2" then break end
        end
        assert.equal("2", processes)
        assert.truthy(tonumber(objects) >= 1)
        says(line, "script.lua")
      end)
  end)

  it("refuses arguments", function()
    assert.equal(2, mpengine("ps", "--no").status)
    assert.equal(2, mpengine("ps", "1").status)
  end)
end)

describe("mpengine dump", function()
  it("shows which task waits for which, and marks a cycle", function()
    with_program(HANG, function(pid)
      local text
      for _ = 1, 200 do -- until both of them wait
        text = dump(pid)
        if text:find("tasks wait for each other", 1, true) then break end
      end
      says(text, "tasks wait for each other", "main of MainProcess", "main of teller", "mp.Lock 'till'",
        "in upvalue 'transfer'", "held by main of teller", "script.lua:5")
    end)
  end)

  it("gives the same as JSON", function()
    with_program(HANG, function(pid)
      local d
      for _ = 1, 200 do
        d = json(dump(pid, "--json"))
        if d.marks[1] then break end
      end
      assert.equal(1, d.version)
      assert.equal(pid, d.program.pid)
      assert.equal(2, d.program.processes)
      assert.equal("cycle", d.marks[1].kind)
      local main, teller = d.processes[1], d.processes[2]
      assert.equal("teller", teller.name)
      assert.equal(pid, teller.parent)
      assert.equal("main", main.tasks[1].name)
      assert.equal("waiting", main.tasks[1].state)
      assert.equal("mp.Lock 'safe'", main.tasks[1].object)
      assert.equal(teller.pid, main.tasks[1].holder.pid)
      assert.truthy(main.tasks[1].seconds >= 0)
      assert.truthy(main.tasks[1].stack[1])
      assert.truthy(main.heap > 0 and main.memory > 0)
      local till
      for _, o in ipairs(d.objects) do till = o.name == "till" and o or till end
      assert.equal(pid, till.holder.pid)
      assert.equal(teller.pid, till.waiting[1].pid)
      says(till.place, "script.lua:1")
    end)
  end)

  it("of a child is that of its program", function()
    with_program(HANG, function(pid)
      local child
      for _ = 1, 200 do
        child = json(dump(pid, "--json")).processes[2]
        if child then break end
      end
      child = child.pid
      assert.equal(pid, json(dump(child, "--json")).program.pid)
    end)
  end)

  it("is answered by an endless loop, whose own hook stays", function()
    with_program([[
      local hooked = 0
      debug.sethook(function() hooked = hooked + 1 end, "", 1000)
      local function spin()
        local before
        while true do
          if hooked ~= before then before = hooked end
          if hooked == 20000 then io.stdout:write(tostring(debug.gethook() ~= nil), "\n") io.stdout:flush() end
        end
      end
      co.spawn(function() co.sleep(0) end)
      ]] .. READY .. "spin()", function(pid, _, _, pipe)
      local d = json(dump(pid, "--json"))
      local main = d.processes[1].tasks[1]
      assert.equal("running", main.state)
      says(main.stack[1], "script.lua")
      assert.equal("ready", d.processes[1].tasks[2].state)
      assert.equal("true", pipe:read())
    end)
  end)

  it("is answered when the loop comes to a task that computes, again and again", function()
    with_program([[
      local function spin() while true do end end
      co.spawn(function()
        while true do
          local e = co.Event()
          for i = 1, 50 do co.spawn(function() e:wait() end) end
          co.sleep(0)
          e:set()
          if co.stop then spin() end
        end
      end)
      co.spawn(function() co.sleep(0.3) co.stop = true end)
    ]] .. READY .. "mp.sleep(1000)", function(pid)
      local process
      for _ = 1, 500 do
        process = json(dump(pid, "--json")).processes[1]
        assert.equal(true, process.answered)
        if process.state == "running" then break end
      end
      assert.equal("running", process.state)
    end)
  end)

  it("says of a process that blocks in C what the kernel and shared memory tell", function()
    with_program([[
      local lock = mp.Lock{ name = "kept" }
      lock:acquire()
    ]] .. READY .. "os.execute('exec sleep 1000')", function(pid)
      says(dump(pid), "does not answer: it runs C code, or is blocked in the system", "the kernel says: sleeping",
        "holds mp.Lock 'kept'")
      local process = json(dump(pid, "--json")).processes[1]
      assert.equal(false, process.answered)
      assert.equal("mp.Lock 'kept'", process.holds[1])
    end)
  end)

  it("says of a stopped process that it is stopped, and of its pool task since when", function()
    with_program([[
      local function crunch() mp.sleep(1000) end
      local pool = mp.Pool{ processes = 1, name = "crunchers" }
      pool:apply_async(crunch)
      local function busy() return pool:stats().workers[1].state == "busy" end
      while not busy() do mp.sleep(0.001) end
    ]] .. READY .. "mp.sleep(1000)", function(pid)
      local before = json(dump(pid, "--json"))
      assert.equal("crunchers", before.pools[1].name)
      assert.equal("crunch", before.pools[1].workers[1].runs)
      local worker = before.pools[1].workers[1].pid
      stop_by_signal(pid, worker)
      local text = dump(pid)
      says(text, "does not answer: it is stopped", "the kernel says: stopped", "pool 'crunchers'",
        "its process does not answer", "runs a task for")
      shell(("kill -CONT %d %d"):format(pid, worker))
      says(dump(pid), "runs crunch for")
    end)
  end)

  it("shows the supervisors of each process with their children, and what waits for a limiter", function()
    with_program([[
      local limit = mp.RateLimiter { rate = 1e-3, burst = 5, name = "requests" }
      limit:acquire(5)
      local s = mp.Supervisor { name = "shop", backoff = { 60, 60 },
        { name = "web", target = function() limit:acquire(5) end },
        { name = "crash", target = function() os.exit(3) end } }
      s:start()
      local function waits()
        for _, o in ipairs(mp.stats().objects) do if o.kind == "RateLimiter" then return o.waiters == 1 end end
      end
      while s:status().crash.state ~= "backoff" or not waits() do mp.sleep(0.001) end
    ]] .. READY .. "mp.sleep(1000)", function(pid)
      local text = dump(pid)
      says(text, "supervisor 'shop' of MainProcess", "web (pid ", ": running, 0 restarts",
        "crash: backoff, 0 restarts, the last one ended with 3", "process web",
        "waits for mp.RateLimiter", "'requests'")
      local main = json(dump(pid, "--json")).processes[1]
      assert.equal("shop", main.supervisors[1].name)
      assert.equal("running", main.supervisors[1].state)
      assert.same({ name = "crash", state = "backoff", restarts = 0, exitcode = 3 }, main.supervisors[1].children[1])
      assert.equal("web", main.supervisors[1].children[2].name)
    end)
  end)

  it("works when the main process is dead", function()
    with_program([[
      local q, ready = mp.Queue{ name = "never" }, mp.Event()
      local p = mp.Process{ target = function() co.spawn(co.sleep, 1000) ready:set() q:get() end, name = "orphan",
        detach = true }
      p:start()
      ready:wait()
      io.stdout:write(p.pid, "\n") io.stdout:flush()
      mp.sleep(1000)
    ]], function(pid, _, line)
      shell("kill -KILL " .. pid)
      local text = dump(tonumber(line))
      says(text, "its main process has ended", "process orphan", "mp.Queue")
      local list
      for _ = 1, 200 do
        list = mpengine("ps").stdout
        if list:find("its main process has ended", 1, true) then break end
      end
      says(list, "its main process has ended")
    end)
  end)

  it("marks a queue that only grows, a lock that is held long, and code that does not wait", function()
    with_program([[
      local q, lock = mp.Queue{ name = "backlog" }, mp.Lock{ name = "long" }
      for i = 1, 500 do q:put(i) end
      lock:acquire()
      local waiter = co.spawn(function() lock:acquire() end)
      local p = mp.Process{ target = function() while true do end end, name = "spinner" }
      p:start()
      co.sleep(1.3)
    ]] .. READY .. "waiter:join()", function(pid)
      says(dump(pid), "'backlog'", "has 500 items, and none was ever taken", "mp.Lock 'long'",
        "has been waited for for ", "main of spinner", "without waiting")
    end)
  end)

  it("counts objects by the place where they were made", function()
    with_program("local kept = {}\nfor i = 1, 50 do kept[i] = mp.Queue() end\n" .. READY
      .. "mp.sleep(1000) print(kept)", function(pid) says(dump(pid), "50 mp.Queue made at script.lua:2") end)
  end)

  it("shows names as they are, escaped", function()
    with_program([[local l = mp.Lock{ name = "a\nb\xff\27[31m" } l:acquire()
      local p = mp.Process{ target = function() ]] .. READY .. [[ mp.sleep(1000) end, name = "od\nd" }
      p:start() mp.sleep(1000)]], function(pid)
        says(dump(pid), [['a\nb\xff\x1b[31m']], [[process od\nd (pid]])
        local d = json(dump(pid, "--json"))
        assert.equal([[a\nb\xff\x1b[31m]], d.objects[1].name)
      end)
  end)

  it("of many tasks that are alike is short, and whole as JSON", function()
    with_program([[
      local e = co.Event()
      local function wait() e:wait() end
      for i = 1, 20000 do co.spawn(wait) end
      co.sleep(0)
    ]] .. READY .. "mp.sleep(1000)", function(pid)
      local text = dump(pid)
      says(text, "20000 tasks wait: waits for mp.co.Event")
      assert.truthy(#text < 4000)
      assert.equal(20001, #json(dump(pid, "--json")).processes[1].tasks)
    end)
  end)

  it("asks programs of stock Lua too", function()
    with_program(READY .. "mp.sleep(1000)", function(pid)
      local text
      for _ = 1, 100 do -- it may not sleep yet
        text = dump(pid)
        if text:find("waits for", 1, true) then break end
      end
      says(text, "task main #1: waits for the end of its sleep")
    end, { stock = true })
  end)

  it("refuses what it cannot show, on stderr alone", function()
    for pid, why in pairs { ["1"] = "pid 1 ", ["4999999"] = "there is no process", ["x"] = "'x' is no pid",
      ["0"] = "'0' is no pid", ["0x10"] = "'0x10' is no pid", ["1e3"] = "'1e3' is no pid",
      ["4294967297"] = "there is no process with pid 4294967297",
      ["9223372036854775807"] = "there is no process with pid 9223372036854775807" } do
      local r = mpengine("dump", pid)
      assert.equal(1, r.status, pid)
      assert.equal("", r.stdout)
      says(r.stderr, "mpengine dump: ", why)
    end
    assert.equal(2, mpengine("dump", "--what").status)
  end)

  it("is ended by Ctrl-C with one line", function()
    with_program(READY .. "while true do string.find(('a'):rep(60), ('a*'):rep(20) .. 'b') end", function(pid)
      local out
      for _ = 1, 20 do
        out = shell(("timeout -s INT 0.5 %s dump %d 2>&1; echo $?"):format(quote(support.command), pid))
        if out ~= "124\n" then break end -- it had not taken the signal yet, which ends it without a word then
      end
      assert.equal("mpengine: interrupted\n124\n", out)
    end)
  end)

  it("shows the beginning of a long name of a process, in whole characters", function()
    local code = [[
      local ready = mp.Semaphore(0)
      local function stay() ready:release() mp.sleep(1000) end
      for _, name in ipairs { ("\u{e9}"):rep(60), ("\u{65e5}"):rep(60), "zero\0byte" } do
        mp.Process { target = stay, name = name }:start()
      end
      for _ = 1, 3 do ready:acquire() end
    ]]
    with_program(code .. READY .. "mp.sleep(1000)", function(pid)
      local text = dump(pid)
      says(text, ("process %s (pid"):format(("\u{e9}"):rep(23)), ("process %s (pid"):format(("\u{65e5}"):rep(15)),
        "process zero\\\\0byte (pid")
    end)
  end)

  it("takes no number for the pid that its low 32 bits are", function()
    with_program(READY .. "mp.sleep(1000)", function(pid)
      for _, command in ipairs { "dump", "top" } do
        local r = mpengine(command, ("%d"):format(pid + (1 << 32)))
        assert.equal(1, r.status)
        assert.equal("", r.stdout)
        says(r.stderr, "there is no process with pid ")
      end
    end)
  end)

  it("refuses another user's program", function()
    if shell("id -u") ~= "0\n" then pending("needs root, to be another user") return end
    with_program(READY .. "mp.sleep(1000)", function(pid)
      local r = mpengine("dump", tostring(pid))
      assert.equal(0, r.status)
      local err = os.tmpname()
      shell(("cp %s %s.x; chmod 755 %s.x"):format(quote(support.command), err, err))
      local out = shell(("cd /; setpriv --reuid 65534 --clear-groups %s.x dump %d 2>%s; echo $?"):format(err, pid, err))
      assert.equal("1\n", out)
      says(support.read_file(err), "belongs to another user")
      os.remove(err)
      os.remove(err .. ".x")
    end)
  end)

  it("is no part of an arena with a name, which goes on", function()
    local name = "MPENGINE_ARENA=look-" .. os.time()
    with_program(READY .. "mp.sleep(1000)", function(pid)
      for _ = 1, 2 do
        local out = shell(("%s " .. support.limit .. " %s dump %d; echo $?"):format(name, quote(support.command), pid))
        says(out, "program " .. pid, ", 1 process,")
      end
      says(mpengine("ps").stdout, tostring(pid))
    end, { env = name })
  end)

  it("refuses a program that has ended", function()
    local pid
    with_program(READY .. "mp.sleep(1000)", function(p) pid = p end)
    local r
    for _ = 1, 200 do
      r = mpengine("dump", tostring(pid))
      if r.status ~= 0 then break end
    end
    assert.equal(1, r.status)
    assert.equal("", r.stdout)
  end)

  it("lists the programs when several run and none is named", function()
    with_program(READY .. "mp.sleep(1000)", function(first)
      with_program(READY .. "mp.sleep(1000)", function(second)
        local r = mpengine "dump"
        assert.equal(2, r.status)
        says(r.stdout, "SCRIPT", first .. " ", second .. " ")
        says(r.stderr, "give the pid of one")
      end)
    end)
  end)

  it("says when it cannot write", function()
    with_program(READY .. "mp.sleep(1000)", function(pid)
      local r = mpengine("dump", tostring(pid), ">/dev/full")
      assert.equal(1, r.status)
      says(r.stderr, "cannot write: No space left on device")
    end)
  end)
end)

describe("SIGQUIT", function()
  -- Until the file has a whole dump, whose last part is the table of places.
  local function dump_in(path)
    local text
    for _ = 1, 1000 do
      text = support.read_file(path)
      if text:find("\nobjects by the place", 1, true) then return text end
      shell("sleep 0.01")
    end
    error("no dump was written: " .. text)
  end

  local END <const> = "co.spawn(function() co.sleep(0.2) io.stdout:write('goes on\\n') io.stdout:flush() end)\n"

  it("has a process write the dump of its program to stderr, and it goes on", function()
    local code = "local q = mp.Queue{ name = 'q' } co.spawn(co.sleep, 1000)\n" .. WAITS .. END .. "q:get()"
    with_program(code, function(pid, dir, _, pipe)
      shell("kill -QUIT " .. pid)
      says(dump_in(dir .. "/stderr"), "program " .. pid .. ":", "task main #1: waits for mp.Queue", "'q'")
      assert.equal("goes on", pipe:read())
    end)
  end)

  it("is answered by a child, by an endless loop and by code that blocks", function()
    with_program([[
      local q, ready = mp.Queue{ name = "q" }, mp.Barrier(3)
      local function spin() ready:wait() while true do end end
      local function block() ready:wait() io.popen("exec sleep 1000"):read() end
      local spinner = mp.Process{ target = spin, name = "spinner" }
      local blocker = mp.Process{ target = block, name = "blocker" }
      spinner:start() blocker:start()
      ready:wait()
      io.stdout:write(spinner.pid, " ", blocker.pid, "\n") io.stdout:flush()
      q:get()
    ]], function(_, dir, line)
      for pid in line:gmatch("%d+") do
        support.write_file(dir .. "/stderr", "")
        shell("kill -QUIT " .. pid)
        says(dump_in(dir .. "/stderr"), "task main #1: waits for mp.Queue", "process spinner", "process blocker",
          "it runs C code, or is blocked in the system")
      end
    end)
  end)

  it("is the script's own when the script catches it", function()
    with_program([[
      mp.signal("QUIT", function() io.stdout:write("caught\n") io.stdout:flush() end)
    ]] .. READY .. "mp.sleep(1000)", function(pid, dir, _, pipe)
      shell("kill -QUIT " .. pid)
      assert.equal("caught", pipe:read())
      assert.equal("", support.read_file(dir .. "/stderr"))
    end)
  end)

  it("works in a program of stock Lua", function()
    with_program("local q = mp.Queue{ name = 'q' } co.spawn(co.sleep, 1000)\n" .. READY .. "q:get()", function(pid, dir)
      shell("kill -QUIT " .. pid)
      says(dump_in(dir .. "/stderr"), "task main #1: waits for mp.Queue")
    end, { stock = true })
  end)
end)

describe("mp.dump", function()
  it("is the dump of the own program, made while the others go on", function()
    support.ok [[
      local co, q = mp.co, mp.Queue{ name = "jobs" }
      local ready = mp.Barrier(2)
      local function serve(q, ready) ready:wait() q:get() end
      local p = mp.Process{ target = serve, args = { q, ready }, name = "server" }
      p:start()
      ready:wait()
      local turns = 0
      local t = co.spawn(function() while true do turns = turns + 1 co.sleep(0) end end)
      local text
      local function shows(part) return text:find(part, 1, true) end
      repeat text = mp.dump() until shows "task main #2: waits for mp.Queue"
      assert(shows "process MainProcess" and shows "task main #1: running" and shows "process server", text)
      assert(shows "'jobs'" and shows "in field 'dump'" == nil and shows "in local 'target'", text)
      assert(turns > 0)
      t:kill()
      q:put(1)
      all{ p }
    ]]
  end)

  it("shows names of objects in mp.stats too", function()
    support.ok [[
      local q = mp.Queue{ name = "jobs" }
      local o = mp.stats().objects[1]
      eq(o.name, "jobs")
      assert(o.place:find "script.lua:1$")
      eq(q:empty(), true)
    ]]
  end)
end)

describe("mp.metrics", function()
  it("is the text format of Prometheus", function()
    support.ok [==[
      local q = mp.Queue{ name = 'jo"bs\n' }
      for i = 1, 5 do q:put(i) end
      q:get()
      local lock = mp.Lock{ name = "till" }
      lock:acquire()
      local pool = mp.Pool{ processes = 1, name = "crunchers" }
      pool:map(math.abs, { 1, 2, 3 })
      until_true(function() return mp.metrics():find("mpengine_pool_tasks_total{[^}]*} 3\n") end)
      local text, families, samples = mp.metrics(), {}, {}
      for line in text:gmatch "[^\n]+" do
        local family, kind = line:match "^# TYPE ([%w_]+) (%a+)$"
        if family then
          assert(not families[family] and (kind == "gauge" or kind == "counter"), line)
          families[family] = true
        elseif not line:find "^# HELP [%w_]+ .+%.$" then
          local name, labels, value = line:match "^([%w_]+)(%b{}) ([%d.e+-]+)$"
          if not name then name, value = line:match "^([%w_]+) ([%d.e+-]+)$" end
          assert(families[name] and tonumber(value), line)
          labels = labels or ""
          assert(not samples[name .. labels], line)
          samples[name .. labels] = tonumber(value)
          if labels ~= "" then samples[name] = (samples[name] or 0) + tonumber(value) end
        end
      end
      assert(text:find([[mpengine_queue_items{kind="Queue",name="jo\"bs\\n",place="]], 1, true), text)
      eq(samples.mpengine_processes, 2)
      eq(samples.mpengine_locks_held, 1)
      eq(samples.mpengine_pool_workers, 1)
      eq(samples.mpengine_pool_tasks_total, 3)
      assert(samples.mpengine_shared_memory_bytes > 0 and samples.mpengine_lua_heap_bytes > 0)
      pool:terminate()
    ]==]
  end)
end)
