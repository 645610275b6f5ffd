local support = require "spec.support"
local ok, prints, ends, run = support.ok, support.prints, support.ends, support.run

-- The address sanitizer's allocator is not whole in a child that is forked beside a thread that runs.
local beside_threads = support.read_file("/proc/self/maps"):find("libasan", 1, true) and pending or it

describe("a process", function()
  it("runs its target with the arguments and ends with exit code 0", function()
    prints("child\ta\t2\ttrue\n0\n", [[
      local p = mp.Process{ target = function(...) print("child", ...) end, args = { "a", 2, true } }
      p:start()
      p:join()
      print(p.exitcode)]])
  end)

  it("takes the target and the arguments by position, nil among them", function()
    prints("3\tnil\t2\tnil\n", [[
      local p = mp.Process(function(...) print(select("#", ...), ...) end, nil, 2, nil)
      p:start() p:join()]])
  end)

  it("without a target starts and ends with 0", function()
    ok[[local p = mp.Process{} p:start() p:join() eq(p.exitcode, 0)]]
  end)

  it("is called Process-N unless it was given a name", function()
    prints("Process-1 Process-2 w1\nProcess-1\nw1\n", [[
      local function who() print(mp.current_process().name) end
      local a, b, c = mp.Process{ target = who }, mp.Process(who), mp.Process{ target = who, name = "w1" }
      print(a.name .. " " .. b.name .. " " .. c.name)
      a:start() a:join()
      c:start() c:join()]])
  end)

  it("shows its name to the system, and the main process keeps its own", function()
    for _, method in ipairs{ "fork", "spawn", "forkserver" } do
      ok([[
        mp.set_start_method("]] .. method .. [[")
        local function command(pid)
          local f <close> = assert(io.open("/proc/" .. pid .. "/comm"))
          return f:read()
        end
        local before = command("self")
        local ready, stop = mp.Event(), mp.Event()
        local p = mp.Process{ target = function(r, s) r:set() s:wait() end, args = { ready, stop },
          name = "fetcher of prices" }
        p:start()
        ready:wait()
        eq(command(p.pid), "fetcher of pric")
        eq(command("self"), before)
        stop:set()
        all{ p }
      ]])
    end
  end)

  it("shows its name in place of the first argument, before those of the program", function()
    for _, method in ipairs{ "fork", "spawn", "forkserver" } do
      ok([[
        mp.set_start_method("]] .. method .. [[")
        local function arguments(pid)
          local f <close> = assert(io.open("/proc/" .. pid .. "/cmdline", "rb"))
          local list = {}
          for word in f:read("a"):gsub("%z+$", ""):gmatch "[^%z]*" do list[#list + 1] = word end
          return list
        end
        local before = arguments("self")
        local function serve(ready, stop)
          ready:set()
          stop:wait()
          mp.current_process().name = "2"
          ready:set()
          stop:clear()
          stop:wait()
        end
        local ready, stop = mp.Event(), mp.Event()
        local p = mp.Process{ target = serve, args = { ready, stop }, name = "fetcher" }
        p:start()
        ready:wait()
        local shown = arguments(p.pid)
        eq(shown[1], "fetcher")
        if mp.get_start_method() == "fork" then
          eq(table.concat(shown, " ", 2), table.concat(before, " ", 2):sub(1, #table.concat(shown, " ", 2)))
        else
          eq(#shown, 1)
        end
        ready:clear()
        stop:set()
        ready:wait()
        eq(arguments(p.pid)[1], "2")
        eq(table.concat(arguments "self", " "), table.concat(before, " "))
        p:terminate()
        p:join()
      ]])
    end
  end)

  it("is cut off where the arguments of the program have no more room", function()
    ok [[
      local ready = mp.Event()
      local p = mp.Process{ target = function() ready:set() mp.sleep(1000) end, name = ("long "):rep(9) }
      local function size(pid)
        local f <close> = assert(io.open("/proc/" .. pid .. "/cmdline", "rb"))
        local text = f:read "a"
        return #text, text
      end
      p:start()
      ready:wait()
      local n, text = size(p.pid)
      eq(n, (size "self"))
      local shown = text:match "^[^%z]*"
      eq(shown, ("long "):rep(9):sub(1, #shown))
      p:terminate()
      p:join()
    ]]
  end)

  it("of a process is called after it: Process-1:1, Process-1:2", function()
    prints("Process-1:1\nProcess-1:2\n", [[
      P(function()
        for _ = 1, 2 do
          local p = mp.Process(function() print(mp.current_process().name) end)
          p:start() p:join()
        end
      end):join()]])
  end)

  it("keeps neither target nor arguments after its start", function()
    for _, method in ipairs{ "fork", "spawn", "forkserver" } do
      ok([[
        mp.set_start_method("]] .. method .. [[")
        local weak = setmetatable({}, { __mode = "k" })
        local function start()
          local args, upvalue, inner = {}, {}, {}
          weak[args], weak[upvalue], weak[inner] = true, true, true
          local p = mp.Process(function(x) return x, upvalue end, args)
          local named = mp.Process{ target = function() end, args = { inner } }
          p:start() named:start()
          return p, named
        end
        local p, named = start()
        collectgarbage() collectgarbage()
        eq(next(weak), nil)
        all{ p, named }
        raises("only once", p.start, p)]])
    end
  end)

  it("keeps its arguments when it could not be started, and can be started again", function()
    prints("x\n", [[
      mp.set_executable("/no/such/file")
      local p = mp.get_context("spawn").Process(print, "x")
      raises("cannot start", p.start, p)
      mp.set_executable(require("mpengine.core").own_executable())
      p:start() p:join()]])
  end)

  it("has its whole name in the child too, and is the parent of its children by it", function()
    for _, method in ipairs { "fork", "spawn", "forkserver" } do
      ok(([[
        local ctx, q = mp.get_context(%q), mp.SimpleQueue()
        local function child(results)
          results:put(mp.current_process().name)
          local p = mp.Process(function(from) from:put(mp.parent_process().name) end, results)
          p:start()
          p:join()
          mp.current_process().name = "changed\0here"
          results:put(mp.current_process().name)
        end
        for _, name in ipairs { ("n"):rep(300), ("\u{e9}"):rep(60), "zero\0byte", "", "line\n\27[31m" } do
          local p = ctx.Process { target = child, args = { q }, name = name }
          p:start()
          eq({ q:get(), q:get(), q:get() }, { name, name, "changed\0here" })
          p:join()
          eq(p.exitcode, 0)
        end]]):format(method))
    end
  end)

  it("has its name escaped in tostring, and so has a task", function()
    ok[[
      local name = "a\0b\27[31m\255\u{e9}"
      local shown = "a\\x00b\\x1b[31m\\xff\u{e9}"
      local p = mp.Process { target = print, name = name }
      eq(tostring(p), "mp.Process: " .. shown .. " (not started)")
      local t = mp.co.spawn(function() end)
      t.name = name
      eq({ t.name, tostring(t) }, { name, "mp.Task: " .. shown .. " (new)" })]]
  end)

  it("has no pid and no exit code, and is not alive, before start", function()
    ok[[
      local p = mp.Process(function() end)
      eq(p.pid, nil) eq(p.exitcode, nil) eq(p:is_alive(), false) eq(p.daemon, false)]]
  end)

  it("has the pid that it sees itself", function()
    ok[[
      local q = mp.Queue()
      local p = P(function() q:put(mp.current_process().pid) end)
      eq(math.type(p.pid), "integer")
      eq(q:get(), p.pid)
      p:join()]]
  end)

  it("is alive and has no exit code while it runs", function()
    ok[[
      local go = mp.Event()
      local p = P(function() go:wait() end)
      eq(p:is_alive(), true) eq(p.exitcode, nil)
      go:set()
      eq(p:join(), true)
      eq(p:is_alive(), false) eq(p.exitcode, 0)]]
  end)

  it("ends with the status given to os.exit", function()
    ok[[
      for _, case in ipairs{ { 0, 0 }, { 7, 7 }, { 255, 255 }, { 256, 0 }, { true, 0 }, { false, 1 } } do
        local p = P(function() os.exit(case[1]) end)
        p:join()
        eq(p.exitcode, case[2], tostring(case[1]))
      end
      local p = P(function() os.exit(3, true) end)
      p:join()
      eq(p.exitcode, 3)]]
  end)

  it("ends with minus the signal that killed it", function()
    ok[[
      local p = P(function() mp.sleep(60) end)
      p:kill() p:join()
      eq(p.exitcode, -9)
      p = P(function() mp.sleep(60) end)
      p:terminate() p:join()
      eq(p.exitcode, -15)
      p = P(function() kill(0, "ABRT") mp.sleep(60) end)
      p:join()
      eq(p.exitcode, -6)]]
  end)

  it("is ended by terminate also in an endless loop", function()
    ok[[
      local ready = mp.Event()
      local p = P(function() ready:set() while true do end end)
      ready:wait()
      p:terminate()
      p:join()
      eq(p.exitcode, -15)]]
  end)

  for _, method in ipairs{ "fork", "spawn", "forkserver" } do
    it("ends silently when it is terminated at any moment of its start by " .. method, function()
      ok(([[
        mp.set_start_method(%q)
        for i = 1, 40 do
          local p = P(function() mp.sleep(60) end)
          mp.sleep(i / 4000)
          p:terminate()
          p:join()
          eq(p.exitcode, -15)
        end]]):format(method))
    end)
  end

  it("may be killed and joined again after its end", function()
    ok[[
      local p = P(function() end)
      eq(p:join(), true) eq(p:join(), true) eq(p:join(0), true)
      p:kill() p:terminate()
      eq(p.exitcode, 0)]]
  end)

  it("is not joined before its end: nil, timeout, and never early", function()
    ok[[
      local go = mp.Event()
      local p = P(function() go:wait() end)
      eq(table.pack(p:join(0)), table.pack(nil, "timeout"))
      local t = now()
      eq(table.pack(p:join(0.15)), table.pack(nil, "timeout"))
      late(t, 0.15)
      go:set()
      eq(p:join(10), true)]]
  end)

  it("is joined at its end, long before the timeout", function()
    ok([[
      local p = P(function() end)
      eq(p:join(3600), true)]], { timeout = 15 })
  end)

  it("can be started once only, joined only after start", function()
    ok[[
      local p = mp.Process(function() end)
      raises({ "join", "start" }, p.join, p)
      p:start()
      raises("start", p.start, p)
      p:join()
      raises("start", p.start, p)]]
  end)

  it("can be closed after its end only; then it says that it is closed", function()
    ok[[
      local go = mp.Event()
      local p = P(function() go:wait() end)
      raises("close", p.close, p)
      go:set()
      p:join()
      p:close()
      p:close()
      raises("closed", p.join, p)
      raises("closed", p.is_alive, p)
      raises("closed", function() return p.exitcode end)
      assert(#tostring(p) > 0)]]
  end)

  it("says what it is", function()
    ok[[
      local p = mp.Process{ target = function() end, name = "w1" }
      for _ = 1, 2 do
        assert(tostring(p):find("mp.Process", 1, true), tostring(p))
        assert(tostring(p):find("w1", 1, true), tostring(p))
        if not p.pid then p:start() end
      end
      p:join()
      assert(tostring(p):find("mp.Process", 1, true), tostring(p))]]
  end)

  it("cannot have its pid or exit code assigned", function()
    ok[[
      local p = mp.Process(function() end)
      raises("pid", function() p.pid = 1 end)
      raises("exitcode", function() p.exitcode = 1 end)]]
  end)

  it("takes a name and daemon before the start, and no daemon after it", function()
    ok[[
      local q = mp.Queue()
      local p = mp.Process(function() q:put(mp.current_process().name) end)
      p.name = "later"
      p.daemon = true
      p:start()
      eq(q:get(), "later")
      raises("daemon", function() p.daemon = false end)
      p:join()
      eq(p.daemon, true)]]
  end)

  it("can be one of a hundred in turn, and of forty at once", function()
    ok([[
      for _ = 1, 100 do
        local p = P(function() end)
        p:join()
        eq(p.exitcode, 0)
      end
      local list, sum = {}, mp.Value("i", 0)
      for i = 1, 40 do list[i] = P(function() sum:add(i) end) end
      all(list)
      eq(sum.value, 820)]], { timeout = 40 })
  end)

  it("leaves no zombie when it is joined, and none when active_children is asked", function()
    ok[[
      local p = P(function() end)
      local pid = p.pid
      p:join()
      eq(state(pid), "gone")
      local other = P(function() end)
      wait_dead(other.pid)
      eq(#mp.active_children(), 0)
      eq(state(other.pid), "gone")]]
  end)

  it("can be joined by several tasks at once", function()
    ok[[
      local co = mp.co
      local go = mp.Event()
      local p = P(function() go:wait() end)
      local tasks = {}
      for i = 1, 3 do tasks[i] = co.spawn(function() return p:join() end) end
      co.sleep(0)
      go:set()
      co.joinall(tasks)
      for i = 1, 3 do eq(tasks[i]:get(), true) end]]
  end)

  it("that is joined suspends only the task that joins it", function()
    ok[[
      local co = mp.co
      local ticks, go = 0, mp.Event()
      local p = P(function() go:wait() end)
      local t = co.spawn(function() p:join() return ticks end)
      for _ = 1, 5 do co.sleep(0.001) ticks = ticks + 1 end
      go:set()
      assert(t:get() >= 5)]]
  end)
end)

describe("a child that ends and is not joined", function()
  -- zombies(pids): how many of them are there, ended and not waited for
  local HELPERS = [[
    local function zombies(pids)
      local n = 0
      for _, pid in ipairs(pids) do n = n + (state(pid) == "Z" and 1 or 0) end
      return n
    end
    local function gone(pids)
      for _, pid in ipairs(pids) do if state(pid) ~= "gone" then return false end end
      return true
    end
    local function many(n, f)
      local pids = {}
      for i = 1, n do pids[i] = P(f).pid end
      return pids
    end
    P(function() end):join()]]
  for _, method in ipairs{ "fork", "spawn", "forkserver" } do
    local function leaves_nothing(code)
      local begin = ('mp.set_start_method("%s") %s local before = descriptors() '):format(method, HELPERS)
      return ok(begin .. code, { timeout = 60 })
    end

    it("leaves nothing in a process that only starts: " .. method, function()
      leaves_nothing[[
        local pids = {}
        for i = 1, 200 do
          pids[i] = P(function() end).pid
          if i % 50 == 0 then assert(zombies(pids) <= 25, zombies(pids)) end
        end
        assert(descriptors() <= before + 40, descriptors() - before)]]
    end)

    it("leaves nothing in a process that sleeps, or waits for something else: " .. method, function()
      leaves_nothing[[
        local go, q = mp.Event(), mp.Queue()
        local pids = many(30, function() go:wait() end)
        local observer = P(function() -- this process sleeps meanwhile
          go:set()
          until_true(gone, pids)
          q:put(true)
        end)
        eq(q:get(20), true)
        observer:join()
        assert(descriptors() <= before + 1, descriptors() - before)]]
    end)

    it("leaves nothing in a process that computes: " .. method, function()
      leaves_nothing[[
        local go = mp.Event()
        local pids, limit = many(30, function() go:wait() end), now() + 10
        go:set()
        while not gone(pids) do
          for _ = 1, 10000 do end
          assert(now() < limit, "zombies or running: " .. #pids)
        end]]
    end)

    it("has its exit code when it is asked for later: " .. method, function()
      leaves_nothing[[
        local list, pids = {}, {}
        for i = 1, 5 do
          list[i] = P(function() os.exit(i) end)
          pids[i] = list[i].pid
        end
        local killed = P(function() mp.sleep(60) end)
        pids[6] = killed.pid
        killed:kill()
        until_true(gone, pids)
        for i = 1, 4 do eq({ list[i]:join(), list[i].exitcode }, { true, i }) end
        eq({ list[5].exitcode, list[5]:is_alive(), killed.exitcode }, { 5, false, -9 })
        eq(#mp.wait{ killed }, 1)]]
    end)
  end

  it("is released by the library when the script has dropped it", function()
    ok[[
      local weak = setmetatable({}, { __mode = "k" })
      for _ = 1, 20 do
        local pid
        do local p = P(function() end) weak[p], pid = true, p.pid end
        until_true(function() return state(pid) == "gone" end)
      end
      P(function() end)
      collectgarbage() collectgarbage()
      local n = 0
      for _ in pairs(weak) do n = n + 1 end
      assert(n <= 1, n)
      eq(#mp.active_children() <= 1, true)]]
  end)

  it("is found although the script handles SIGCHLD itself, and restores it", function()
    ok[[
      local came = 0
      mp.signal("CHLD", function() came = came + 1 end)
      local pid = P(function() end).pid
      until_true(function() return state(pid) == "gone" and came > 0 end)
      mp.signal("CHLD", "default")
      pid = P(function() end).pid
      until_true(function() return state(pid) == "gone" end)]]
  end)

  it("does not cut short other waits for programs and sleeps", function()
    ok[[
      local from = now()
      for i = 1, 5 do P(function() mp.sleep(0.02 * i) end) end
      eq({ os.execute("sleep 0.2; exit 3") }, { nil, "exit", 3 })
      local f = io.popen("sleep 0.1; echo done; exit 4")
      eq(f:read("a"), "done\n")
      eq({ f:close() }, { nil, "exit", 4 })
      for i = 1, 5 do P(function() mp.sleep(0.02 * i) end) end
      mp.sleep(0.2)
      late(from, 0.5)
      eq(mp.subprocess.run{ "sh", "-c", "exit 5" }.status, 5)]]
  end)

  it("gives daemons their time to end", function()
    prints("ended\n", [[
      for _ = 1, 5 do P(function() end) end
      local ready = mp.Event()
      mp.Process{ daemon = true, target = function()
        mp.signal("TERM", function() mp.sleep(0.1) print("ended") os.exit(0) end)
        ready:set()
        mp.sleep(60)
      end }:start()
      for _ = 1, 3 do mp.Process{ daemon = true, target = function() mp.sleep(60) end }:start() end
      ready:wait()]])
  end)
end)

describe("random numbers", function()
  local HELPERS = [[
    local function differ(list)
      local seen = {}
      for _, v in ipairs(list) do
        if seen[v] then error("drawn twice: " .. v) end
        seen[v] = true
      end
    end
    local function draw() return math.random(0) end]]
  for _, method in ipairs{ "fork", "spawn", "forkserver" } do
    it("differ in all children, grandchildren and workers, one after the other too: " .. method, function()
      ok(HELPERS .. [[
        mp.set_start_method("]] .. method .. [[")
        math.randomseed(42)
        local q, got = mp.Queue(), { draw() }
        all{ P(function() q:put(draw()) end), P(function() q:put(draw()) end), P(function()
          P(function() q:put(draw()) end):join()
          q:put(draw())
        end) }
        while not q:empty() do got[#got + 1] = q:get() end
        eq(#got, 5)
        do
          local meet, pool <close> = mp.Barrier(2), mp.Pool(2)
          local drawn = pool:map(function() meet:wait(10) return math.random(0) end, { 1, 2 })
          table.move(drawn, 1, #drawn, #got + 1, got)
        end
        local pool <close> = mp.Pool{ processes = 1, maxtasksperchild = 1 }
        for _ = 1, 3 do got[#got + 1] = pool:apply(draw) end
        eq(#got, 10)
        differ(got)]])
    end)

    it("are those of the seed that the child sets, or the parent goes on with: " .. method, function()
      ok([[
        mp.set_start_method("]] .. method .. [[")
        math.randomseed(7)
        local first, second = math.random(0), math.random(0)
        math.randomseed(7)
        eq(math.random(0), first)
        local q = mp.Queue()
        P(function() math.randomseed(7) q:put(math.random(0)) mp.sleep(0) q:put(math.random(0)) end):join()
        eq(q:get(), first) eq(q:get(), second)
        eq(math.random(0), second)]])
    end)
  end

  it("differ in the functions of co.offload, one after the other too", function()
    ok(HELPERS .. [[
      local got = { draw() }
      for i = 1, 20 do got[#got + 1] = mp.co.offload(function() return math.random(0) end) end
      differ(got)]])
  end)

  it("differ even if a script has replaced math.randomseed", function()
    ok(HELPERS .. [[
      math.randomseed = error
      local q = mp.Queue()
      for _ = 1, 2 do P(function() q:put(draw()) end):join() end
      differ{ q:get(), q:get() }]])
  end)
end)

describe("a chain of processes, each the child of the one before", function()
  for name, go in pairs{
    ["the target"] = "go()", ["a task"] = "mp.co.spawn(go):get()",
    ["protected calls"] = "assert(pcall(pcall, pcall, go))",
    ["coroutines"] = "coroutine.wrap(function() coroutine.wrap(go)() end)()",
    ["a sort"] = "table.sort({ 1, 2 }, function() if go then local f = go go = nil f() end return false end)",
  } do
    it("goes on with a C stack of its own: started in " .. name, function()
      ok([[
        local q = mp.Queue()
        local function stage(i)
          local function go()
            local p = P(stage, i + 1)
            p:join()
            if p.exitcode ~= 0 then os.exit(1) end
          end
          if i == 90 then q:put("came") else ]] .. go .. [[ end
        end
        stage(1)
        eq(q:get(0), "came")]])
    end)
  end

  it("is as long as the limit of processes", function()
    ok([[
      local q = mp.Queue()
      local function stage(i)
        if i == 255 then return q:put(i) end
        local p = P(stage, i + 1)
        p:join()
        if p.exitcode ~= 0 then os.exit(1) end
      end
      local p = P(stage, 1)
      p:join()
      eq(p.exitcode, 0) eq(q:get(0), 255)]], { timeout = 60 })
  end)
end)

describe("an error in a child", function()
  it("prints the process, the message and a traceback with the line; exit code 1", function()
    local r = run[[
      local function inner()
        error("the reason")
      end
      local p = mp.Process{ target = function() inner() end, name = "w1" }
      p:start() p:join()
      print(p.exitcode)]]
    assert.equal("1\n", r.stdout)
    assert.equal(0, r.status)
    assert.truthy(r.stderr:find("Process w1:", 1, true), r.stderr)
    assert.truthy(r.stderr:find("script.lua:2: the reason", 1, true), r.stderr)
    assert.truthy(r.stderr:find("stack traceback", 1, true), r.stderr)
    assert.truthy(r.stderr:find("script.lua:4", 1, true), r.stderr)
  end)

  it("may be any value", function()
    ends(0, { "Process Process-1:", "told by tostring", "Process Process-2:", "Process Process-3:" }, [[
      local p = P(function() error(setmetatable({}, { __tostring = function() return "told by tostring" end })) end)
      p:join() eq(p.exitcode, 1)
      p = P(function() error({ code = 3 }) end)
      p:join() eq(p.exitcode, 1)
      p = P(function() error() end)
      p:join() eq(p.exitcode, 1)]])
  end)

  it("leaves the parent and the other children alone", function()
    ends(0, { "Process bad:" }, [[
      local q = mp.Queue()
      local bad = mp.Process{ target = function() error("x") end, name = "bad" }
      local good = mp.Process(function() q:put("good") end)
      bad:start() good:start()
      eq(q:get(), "good")
      bad:join() good:join()]])
  end)

  it("runs the close variables of the target", function()
    local r = run[[
      local p = P(function()
        local x <close> = setmetatable({}, { __close = function() print("closed") end })
        error("after")
      end)
      p:join()]]
    assert.equal("closed\n", r.stdout)
  end)
end)

describe("what a child gets", function()
  it("is a copy: lists, upvalues and globals of the parent stay as they are", function()
    prints("child: 1 1 1\nparent: 0 0 0\n", [[
      mp.set_start_method("fork")
      local list, n = {}, 0
      count = 0
      local p = P(function(arg_list)
        list[#list + 1] = 1
        n = n + 1
        count = count + 1
        arg_list[1] = true
        print(("child: %d %d %d"):format(#list, n, count))
      end, {})
      p:join()
      print(("parent: %d %d %d"):format(#list, n, count))]])
  end)

  it("is its state at the start, not when the process object was made", function()
    prints("2\t2\n", [[
      local t, n = { 1 }, 1
      local p = mp.Process(function() print(t[1], n) end)
      t[1], n = 2, 2
      p:start() p:join()]])
  end)

  it("does not have the tasks of the parent running", function()
    ok[[
      local co = mp.co
      local main, leaked = mp.current_process().pid, mp.Event()
      co.spawn(function()
        while true do
          if mp.current_process().pid ~= main then leaked:set() end
          co.sleep(0.002)
        end
      end)
      co.sleep(0.01)
      local p = P(function()
        for _ = 1, 20 do co.sleep(0.005) end
      end)
      p:join()
      eq(p.exitcode, 0)
      eq(leaked:is_set(), false)]]
  end)

  it("may use tasks of its own", function()
    ok[[
      local co, q = mp.co, mp.Queue()
      co.spawn(function() co.sleep(60) end)
      co.sleep(0)
      P(function()
        local a, b = co.spawn(function() co.sleep(0.01) return 1 end), co.spawn(function() return 2 end)
        co.joinall{ a, b }
        q:put(a:get() + b:get())
      end):join()
      eq(q:get(), 3)]]
  end)

  it("is not the text that the parent has not written yet", function()
    for _, mode in ipairs{ "no", "line", "full" } do
      prints("once child\n", ([[
        io.stdout:setvbuf(%q)
        io.write("once ")
        local p = P(function() print "child" end)
        p:join()]]):format(mode))
    end
  end)

  it("is the modules that the parent loaded, and its globals after a fork", function()
    ok[[
      mp.set_start_method("fork")
      package.preload["a.module"] = function() return { f = function() return "from the module" end } end
      local m = require "a.module"
      made_before = 5
      local q = mp.Queue()
      local p = P(function() q:put{ m.f(), made_before } end)
      eq(q:get(), { "from the module", 5 })
      p:join()]]
  end)
end)

describe("the lines of several processes", function()
  local code = [[
    local list = {}
    for i = 1, 4 do
      list[i] = P(function()
        local letter = string.char(96 + i)
        for n = 1, 200 do
          local text = letter:rep(n %% 50 == 0 and 9000 or 100 + n %% 80)
          if n %% 2 == 0 then print(text, text) else io.%s(text, "\t", text, "\n") end
        end
      end)
    end
    all(list)]]

  local function whole(stdout)
    local count = 0
    for line in stdout:gmatch("([^\n]*)\n") do
      count = count + 1
      local a, b = line:match("^(%l+)\t(%l+)$")
      assert.truthy(a and a == b and a == a:sub(1, 1):rep(#a), "a torn line: " .. line:sub(1, 300))
    end
    assert.equal(800, count)
  end

  it("never mix in a pipe", function()
    whole(ok(code:format "write", { through = "cat" }).stdout)
  end)

  it("never mix in a file", function()
    whole(ok(code:format "write").stdout)
  end)

  it("arrive in the order in which they were printed", function()
    local lines = {}
    for i = 1, 20 do lines[i] = "line " .. i .. "\n" end
    prints(table.concat(lines), [[
      for i = 1, 20, 2 do
        print("line " .. i)
        P(function() io.write("line ", i + 1, "\n") end):join()
      end]], { through = "cat" })
  end)
end)

describe("the end of the main script", function()
  it("waits for the children that are not daemons", function()
    prints("main\nchild\n", [[
      local go = mp.Event()
      P(function() go:wait() mp.sleep(0.1) print "child" end)
      print "main"
      go:set()]])
  end)

  it("waits for the children of a child", function()
    prints("child\ngrandchild\n", [[
      P(function()
        local go = mp.Event()
        P(function() go:wait() mp.sleep(0.1) print "grandchild" end)
        print "child"
        go:set()
      end)]])
  end)

  it("by an error also waits for them, and exits with 1", function()
    local r = ends(1, { "the reason" }, [[
      P(function() mp.sleep(0.2) print "child" end)
      error("the reason")]])
    assert.equal("child\n", r.stdout)
  end)

  it("by os.exit also waits for them, and exits with that status", function()
    for _, close in ipairs{ "", ", true" } do
      local r = run("P(function() mp.sleep(0.2) print 'child' end) os.exit(3" .. close .. ")")
      assert.equal("child\n", r.stdout)
      assert.equal(3, r.status)
    end
  end)

  it("terminates the daemons", function()
    local r = ok([[
      local ready = mp.Event()
      local p = mp.Process{ target = function() ready:set() mp.sleep(60) print "too late" end, daemon = true }
      p:start()
      ready:wait()
      print(p.pid)]], { timeout = 15 })
    local pid = r.stdout:match("^(%d+)\n$")
    assert.truthy(pid, r.stdout)
    assert.is_true(support.dead(pid))
  end)

  it("terminates the daemons after the others have ended", function()
    prints("served\n", [[
      local ask, answer = mp.Queue(), mp.Queue()
      mp.Process{ target = function() for v in ask:iter() do answer:put(v) end end, daemon = true }:start()
      P(function() mp.sleep(0.1) ask:put("served") print(answer:get()) end)]])
  end)
end)

describe("a daemon", function()
  it("may not start children", function()
    ok[[
      local q = mp.Queue()
      local p = mp.Process{ daemon = true, target = function()
        local good, err = pcall(function() mp.Process(function() end):start() end)
        q:put{ good, tostring(err) }
      end }
      p:start()
      local good, err = table.unpack(q:get())
      eq(good, false)
      assert(err:find("daemon", 1, true), err)
      p:join()]]
  end)

  it("ends when its parent is killed with kill -9", function()
    local r = run[[
      local ready = mp.Queue()
      local busy = mp.Process{ daemon = true, target = function() ready:put(1) while true do end end }
      local asleep_ = mp.Process{ daemon = true, target = function() ready:put(1) mp.sleep(60) end }
      local waits = mp.Process{ daemon = true, target = function() ready:put(1) mp.Event():wait() end }
      for _, p in ipairs{ busy, asleep_, waits } do p:start() ready:get() print(p.pid) end
      kill(0)
      mp.sleep(60)]]
    assert.equal(128 + 9, r.status)
    local count = 0
    for pid in r.stdout:gmatch("%d+") do
      count = count + 1
      assert.is_true(support.eventually(function() return support.dead(pid) end), "daemon " .. count .. " lives")
    end
    assert.equal(3, count)
  end)
end)

describe("asking about processes", function()
  it("gives the current one, the parent and the children", function()
    ok[[
      local me = mp.current_process()
      eq(me.name, "MainProcess")
      eq(mp.parent_process(), nil)
      eq(#mp.active_children(), 0)
      local go, q = mp.Event(), mp.Queue()
      local p = P(function()
        q:put{ mp.parent_process().pid, mp.parent_process().name, mp.current_process().pid, #mp.active_children() }
        go:wait()
      end)
      eq(q:get(), { me.pid, "MainProcess", p.pid, 0 })
      local children = mp.active_children()
      eq(#children, 1)
      assert(children[1] == p)
      go:set()
      p:join()
      eq(#mp.active_children(), 0)]]
  end)

  it("gives the number of processors", function()
    ok[[assert(math.type(mp.cpu_count()) == "integer" and mp.cpu_count() >= 1)]]
  end)

  it("lets a child see whether its parent is alive", function()
    ok[[
      local q, asked = mp.Queue(), mp.Event()
      P(function()
        P(function()
          q:put(mp.parent_process():is_alive())
          asked:set()
          mp.parent_process():join()
          q:put(mp.parent_process():is_alive())
        end)
        asked:wait()
        kill(0)
        mp.sleep(60)
      end)
      eq(q:get(10), true)
      eq(q:get(10), false)]]
  end)
end)

describe("the start method", function()
  it("is fork for a script, and one of the three", function()
    ok[[
      eq(mp.get_start_method(), os.getenv("MPENGINE_START_METHOD") or "fork")
      local set = {}
      for _, m in ipairs(mp.get_all_start_methods()) do set[m] = true end
      assert(set.fork)]]
  end)

  it("can be chosen by a context, which has the whole API", function()
    ok[[
      local ctx = mp.get_context("fork")
      eq(ctx.get_start_method(), "fork")
      local q = ctx.Queue()
      local p = ctx.Process(function() q:put("from the context") end)
      p:start()
      eq(q:get(), "from the context")
      p:join()
      for _, name in ipairs{ "Lock", "RLock", "Event", "Condition", "Semaphore", "Array", "Value", "Dict", "Manager",
        "Pool", "current_process" } do
        assert(ctx[name], name)
      end]]
  end)

  it("must be one that exists", function()
    ok[[
      raises({ "get_context", "teleport", "fork" }, mp.get_context, "teleport")
      raises({ "set_start_method", "teleport", "fork" }, mp.set_start_method, "teleport")]]
  end)
end)

describe("the other start methods", function()
  for _, method in ipairs{ "spawn", "forkserver" } do
    local set = ("mp.set_start_method(%q) "):format(method)

    it(method .. " runs a closure with its upvalues and arguments", function()
      prints("11\tx\tnil\n0\n", set .. [[
        local n = 10
        not_inherited = true
        local p = P(function(s) n = n + 1 print(n, s, not_inherited) end, "x")
        p:join()
        print(p.exitcode)]])
    end)

    it(method .. " does not run the main script again", function()
      prints("main\nchild\n", set .. [[
        print "main"
        P(function() print "child" end):join()]])
    end)

    it(method .. " shares the objects made before and after", function()
      ok(set .. [[
        local q, back, lock = mp.Queue(), mp.Queue(), mp.RLock()
        local p = P(function()
          local array = q:get()
          local _ <close> = lock:guard()
          array[1] = 42
          back:put(array)
        end)
        local array = mp.Array("i", 1)
        q:put(array)
        assert(back:get() == array)
        eq(array[1], 42)
        p:join()
        eq(p.exitcode, 0)]])
    end)

    it(method .. " tells errors with the script and the line", function()
      ends(0, { "Process Process-1:", "script.lua:2: the reason" }, set .. [[

        local p = P(function() error("the reason") end)
        p:join()
        eq(p.exitcode, 1)]])
    end)

    it(method .. " children end when the parent is killed", function()
      local r = run(set .. [[
        local ready = mp.Event()
        local p = mp.Process{ daemon = true, target = function() ready:set() while true do end end }
        p:start()
        ready:wait()
        print(p.pid)
        kill(0)
        mp.sleep(60)]])
      local pid = r.stdout:match("%d+")
      assert.is_true(support.eventually(function() return support.dead(pid) end))
    end)

    it(method .. " refuses what cannot be sent, in the parent, at start", function()
      ok(set .. [[
        local p = mp.Process{ target = print, args = { 1, { conn = coroutine.create(print) } } }
        raises({ "args[2].conn", "coroutine" }, p.start, p)
        eq(p.pid, nil)]])
    end)
  end

  it("are three", function()
    ok[[
      local list = mp.get_all_start_methods()
      table.sort(list)
      eq(list, { "fork", "forkserver", "spawn" })]]
  end)
end)

-- The whole file is run under each method by MPENGINE_START_METHOD; these are facts of one or two.
describe("a start method", function()
  it("is set by the environment, and a wrong one is refused", function()
    for _, method in ipairs{ "fork", "spawn", "forkserver" } do
      prints(method .. "\n", "print(mp.get_start_method())", { env = { MPENGINE_START_METHOD = method } })
    end
    ends(1, { "MPENGINE_START_METHOD", "teleport", "forkserver" }, "print(mp.get_start_method())",
      { env = { MPENGINE_START_METHOD = "teleport" } })
  end)

  it("of a context is that of its processes and pools, whatever the default is", function()
    ok[[
      for _, method in ipairs{ "fork", "spawn", "forkserver" } do
        mp.set_start_method(method == "fork" and "spawn" or "fork")
        inherited = method
        local ctx, q = mp.get_context(method), mp.Queue()
        local p = ctx.Process(function() q:put(inherited or false) end)
        p:start()
        eq(q:get(), method == "fork" and method)
        p:join()
        raises("fixed", ctx.set_start_method, "fork")
      end]]
  end)

  it("goes on to the children of children", function()
    ok[[
      for _, method in ipairs{ "fork", "spawn", "forkserver" } do
        mp.set_start_method(method)
        local q = mp.Queue()
        local p = P(function()
          P(function() q:put{ mp.get_start_method(), mp.current_process().name, mp.parent_process().name } end):join()
        end)
        eq(q:get(), { method, p.name .. ":1", p.name })
        p:join()
        eq(p.exitcode, 0)
      end]]
  end)

  it("carries over where modules lie, the arguments, the working directory and the environment", function()
    prints(("/tmp hello here/?.lua a1\n"):rep(3), [[
      package.path = "here/?.lua;" .. package.path
      for _, method in ipairs(mp.get_all_start_methods()) do
        mp.set_start_method(method)
        local p = P(function()
          local pwd = io.popen("pwd")
          print(pwd:read("l"), os.getenv("GREETING"), package.path:match("^[^;]*"), arg[1])
        end)
        p:join()
      end]], { cwd = "/tmp", env = { GREETING = "hello" }, args = { "a1" }, through = "tr '\\t' ' '" })
  end)

  it("reports that there is no such program, leaves nothing behind, and goes on with the next", function()
    ok[[
      for _, method in ipairs{ "spawn", "forkserver" } do
        mp.set_start_method(method)
        mp.set_executable("/no/such/program")
        local p = mp.Process(function() end)
        raises({ "start", "/no/such/program", "No such file" }, p.start, p)
        eq(p.pid, nil)
        eq(#mp.active_children(), 0)
        mp.set_start_method("fork")
        P(function() end):join()
      end]]
  end)

  it("ends the fork server with the program, however that ends", function()
    for _, last in ipairs{ "", "os.exit(0)", "error('x')", "kill(0) mp.sleep(60)" } do
      local r = run([[
        mp.set_start_method("forkserver")
        local q = mp.Queue()
        P(function()
          local f = io.open("/proc/self/stat")
          q:put(math.tointeger(f:read("a"):match("%) %a (%d+)")))
        end):join()
        print(q:get())
        io.stdout:flush() ]] .. last)
      local pid = r.stdout:match("^(%d+)\n$")
      assert.truthy(pid, r.stderr)
      assert.is_true(support.eventually(function() return support.dead(pid) end))
    end
  end)

  it("forkserver starts another server when that is killed, and knows how the children of the first ended", function()
    ok[[
      mp.set_start_method("forkserver")
      local q, go = mp.Queue(), mp.Event()
      local function work(code)
        local f = io.open("/proc/self/stat")
        q:put(math.tointeger(f:read("a"):match("%) %a (%d+)")))
        go:wait()
        if code == "kill" then kill(0) mp.sleep(60) end
        os.exit(code)
      end
      local a, b = P(work, 7), P(work, "kill")
      local server = q:get()
      eq(q:get(), server)
      kill(server)
      wait_dead(server)
      eq(a:is_alive(), true)
      eq(table.pack(a:join(0)), table.pack(nil, "timeout"))
      go:set()
      a:join() b:join()
      eq(a.exitcode, 7) eq(b.exitcode, -9)
      local c = P(work, 0)
      assert(q:get() ~= server)
      c:join()
      eq(c.exitcode, 0)]]
  end)

  it("fork is refused while undeclared threads run; the others are not", function()
    ok[[
      local uv = require "luv"
      local thread = uv.new_thread(function() require("luv").sleep(2000) end)
      mp.set_start_method("fork")
      local p = mp.Process(function() end)
      raises({ "start", "threads", "forkserver", "spawn" }, p.start, p)
      mp.set_start_method("spawn")
      P(function() end):join()
      thread:join()
      mp.set_start_method("fork")
      P(function() end):join()]]
  end)

  beside_threads("fork is not refused for the engine's own threads: co.offload, names that http looks up", function()
    ok[[
      mp.set_start_method("fork")
      local co = mp.co
      local work = co.spawn(co.offload, function() local n = 0 for i = 1, 1e7 do n = n + i end return n end)
      co.sleep(0)
      local p = P(function() os.exit(co.offload(function() return 7 end)) end)
      p:join()
      eq(p.exitcode, 7)
      work:get()
      for i = 1, 5 do
        local lookup = co.spawn(mp.http.get, "http://no-such-host-" .. i .. ".invalid/", { timeout = 1 })
        co.sleep(0.001)
        p = P(function() end)
        p:join()
        eq(p.exitcode, 0)
        lookup:join()
      end]]
  end)
end)

describe("Ctrl-C", function()
  local code = [[
    local ready = mp.Queue()
    local function work(how) ready:put(1) how() end
    P(work, function() while true do end end)
    P(work, function() mp.sleep(60) end)
    P(work, function() mp.Queue():get() end)
    for _ = 1, 3 do ready:get() end
    for _, p in ipairs(mp.active_children()) do print(p.pid) end
    os.execute("(sleep 0.2; kill -INT -" .. mp.current_process().pid .. ") >/dev/null 2>&1 &")
    %s]]

  for what, last in pairs{
    sleeps = "mp.sleep(60)", joins = "mp.active_children()[1]:join()", loops = "while true do end",
    ["waits for a queue"] = "mp.Queue():get()", ["ended its main chunk"] = "",
  } do
    it("stops a program that " .. what .. ": status 130, one message, no children left", function()
      local r = run(code:format(last), { session = true })
      assert.equal(130, r.status, r.stderr)
      local messages = 0
      for line in r.stderr:gmatch("[^\n]+") do
        if line:find("interrupt", 1, true) then messages = messages + 1 end
        assert.falsy(line:find("^Process"), r.stderr)
      end
      assert.equal(1, messages, r.stderr)
      local count = 0
      for pid in r.stdout:gmatch("%d+") do
        count = count + 1
        assert.is_true(support.eventually(function() return support.dead(pid) end))
      end
      assert.equal(3, count)
    end)
  end
end)

describe("SIGTERM of the main process", function()
  for what, last in pairs{
    sleeps = "mp.sleep(60)", loops = "while true do end", ["waits for a queue"] = "mp.Queue():get()",
    ["has a task that loops"] = "mp.co.spawn(function() while true do end end) mp.sleep(60)",
  } do
    it("that " .. what .. " ends its daemons and workers, and runs its close variables: status 143", function()
      local r = run(([[
        local mine <close> = setmetatable({}, { __close = function() print("closed") end })
        local ready = mp.Queue()
        local pool = mp.Pool(1)
        local worker = pool:apply(function() return mp.current_process().pid end)
        local d = mp.Process{ daemon = true, target = function() ready:put(1) mp.sleep(60) end }
        d:start()
        ready:get()
        print(d.pid, worker)
        os.execute("(sleep 0.2; kill -TERM " .. mp.current_process().pid .. ") >/dev/null 2>&1 &")
        %s]]):format(last))
      assert.equal(143, r.status, r.stderr)
      local daemon, worker = r.stdout:match("^(%d+)\t(%d+)\nclosed\n$")
      assert.truthy(daemon, r.stdout)
      assert.is_true(support.dead(daemon))
      assert.is_true(support.eventually(function() return support.dead(worker) end))
    end)
  end
end)

describe("a signal", function()
  it("can be handled by a task, while the main chunk waits", function()
    prints("main\t15\ton\n", [[
      local got = mp.co.Event()
      local number
      mp.signal("TERM", function(n) number = n got:set() end)
      kill(mp.current_process().pid, "TERM")
      got:wait()
      print("main", number, "on")]])
  end)

  it("is waited for without a deadlock, as often as it arrives", function()
    ok[[
      local n, enough = 0, mp.co.Event()
      mp.signal("USR1", function() n = n + 1 if n == 3 then enough:set() end end)
      local me = mp.current_process().pid
      os.execute("(for i in 1 2 3; do sleep 0.1; kill -USR1 " .. me .. "; done) >/dev/null 2>&1 &")
      enough:wait()
      eq(n, 3)
      eq(type(mp.signal("USR1", "ignore")), "function")
      kill(mp.current_process().pid, "USR1")
      mp.sleep(0.01)
      eq(n, 3)
      eq(mp.signal("USR1"), "ignore")]]
  end)

  it("handled by the parent is at its default in a child", function()
    ok[[
      mp.signal("TERM", function() end)
      local p = P(function() mp.sleep(60) end)
      p:terminate()
      p:join()
      eq(p.exitcode, -15)]]
  end)

  it("must exist, and be one that can be handled", function()
    ok[[
      raises({ "signal", "NOPE" }, mp.signal, "NOPE", print)
      raises({ "signal", "9" }, mp.signal, 9, print)
      raises({ "signal", "function" }, mp.signal, "TERM", 5)]]
  end)
end)

describe("what a process wrote", function()
  it("is not lost when the process is terminated in the middle of a line", function()
    local ways = { sleeps = "mp.sleep(60)", loops = "while true do end", blocks = "os.execute('sleep 60')" }
    for what, how in pairs(ways) do
      local r = run([[
        local ready = mp.Event()
        local p = P(function() io.write("half a line") ready:set() ]] .. how .. [[ end)
        ready:wait()
        mp.sleep(0.05)
        p:terminate()
        p:join()
        eq(p.exitcode, -15)]])
      assert.same({ 0, "half a line", "" }, { r.status, r.stdout, r.stderr }, what)
    end
  end)

  it("ends the process quietly when it has no reader", function()
    local r = run("for i = 1, 1e9 do print(i) end", { through = "head -1" })
    assert.same({ 141, "1\n", "" }, { r.status, r.stdout, r.stderr })
  end)
end)

describe("the logger", function()
  it("writes lines with time, level, process and pid to stderr, when it is turned on", function()
    for _, method in ipairs{ "fork", "spawn", "forkserver" } do
      local r = run(([[
        mp.get_logger():error("nobody sees this")
        mp.log_to_stderr("info")
        mp.get_logger():debug("nor this")
        mp.get_logger():info("%%d things", 3)
        mp.set_start_method(%q)
        local p = mp.Process{ name = "w1", target = function() mp.get_logger():warning("in the child") end }
        p:start() p:join()]]):format(method))
      local a, b = r.stderr:match("^([^\n]*)\n([^\n]*)\n$")
      assert.truthy(a, r.stderr)
      assert.truthy(a:find("^%d+%-%d%d%-%d%d %d%d:%d%d:%d%d%.%d%d%d INFO MainProcess%[%d+%] 3 things$"), a)
      assert.truthy(b:find("WARNING w1%[%d+%] in the child$"), b)
    end
  end)

  it("refuses a level that does not exist", function()
    ok[[raises({ "log_to_stderr", "loud" }, mp.log_to_stderr, "loud")]]
  end)
end)
