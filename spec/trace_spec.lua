-- Traces of real programs, as JSON of Chrome's trace format, and as a page.
local look = require "spec.support.look"
local support = require "spec.support"
local quote, shell = support.quote, support.shell
local with_program, run, says, json = look.with_program, look.mpengine, look.says, look.json

-- What it does when it is told to, it does while a task of its own shows that a trace has begun.
local TICKS <const> = "co.spawn(function() while true do co.sleep(0.01) end end)\n"
local READY <const> = "io.stdout:write('ready\\n') io.stdout:flush()\n"

-- Checks what the format demands of each event, and returns the whole.
local function check(text)
  local t = json(text)
  local starts, open, threads = {}, {}, {}
  for _, e in ipairs(t.traceEvents) do
    assert.truthy(("XiMsfbe"):find(e.ph, 1, true))
    assert.equal("number", type(e.pid))
    assert.equal("number", type(e.tid))
    assert.equal("string", type(e.name))
    assert.truthy(e.ph == "M" or e.ts >= 0, e.name)
    if e.ph == "X" then
      assert.truthy(e.dur >= 0)
      local key = e.pid .. "/" .. e.tid
      threads[key] = threads[key] or {}
      table.insert(threads[key], e)
    elseif e.ph == "s" then
      starts[e.cat .. e.id] = e
    elseif e.ph == "f" then
      assert.truthy(starts[e.cat .. e.id].ts <= e.ts)
    elseif e.ph == "b" then
      open[e.id .. e.pid] = true
    elseif e.ph == "e" then
      assert.truthy(open[e.id .. e.pid])
      open[e.id .. e.pid] = nil
    end
  end
  assert.is_nil(next(open))
  for _, list in pairs(threads) do -- slices of one thread are one in the other, or one after the other
    table.sort(list, function(a, b) return a.ts < b.ts or a.ts == b.ts and a.dur > b.dur end)
    local stack = {}
    for _, e in ipairs(list) do
      while #stack > 0 and stack[#stack].ts + stack[#stack].dur <= e.ts + 0.002 do stack[#stack] = nil end
      assert.truthy(#stack == 0 or e.ts + e.dur <= stack[#stack].ts + stack[#stack].dur + 0.002, e.name)
      stack[#stack + 1] = e
    end
  end
  return t
end

-- The events of which all these fields are so.
local function events(t, fields)
  local list = {}
  for _, e in ipairs(t.traceEvents) do
    local same = true
    for key, value in pairs(fields) do same = same and e[key] == value end
    if same then list[#list + 1] = e end
  end
  return list
end

-- The process of a name.
local function pid_of(t, name)
  for _, e in ipairs(events(t, { ph = "M", name = "process_name" })) do
    if e.args.name == name then return e.pid end
  end
  error("there is no process " .. name)
end

-- Traces the program while it does what it has for SIGUSR1, after which it prints a line: the text, and what
-- the reader printed.
local function trace_of_usr1(pid, dir, pipe)
  local path = dir .. "/out.json"
  local status, printed = look.read_while("trace", pid, path, function()
    shell("kill -USR1 " .. pid)
    assert.equal("done", pipe:read())
  end)
  assert.equal(0, status, printed)
  return support.read_file(path), printed
end

-- Runs code with --trace: the file, the status, and what it printed.
local function traced(code, form, args)
  local dir = shell("mktemp -d"):gsub("\n", "")
  local path = dir .. "/out." .. (form or "json")
  support.write_file(dir .. "/script.lua", "local mp = require 'mpengine' local co = mp.co " .. code)
  local out = shell(("cd %s && " .. support.limit .. " %s --trace=%s script.lua %s 2>err; echo $?"):format(quote(dir),
    quote(support.command), quote(path), args or ""))
  local text, err = support.read_file(path), support.read_file(dir .. "/err")
  shell("rm -rf " .. quote(dir))
  local printed, status = out:match("^(.-)(%d+)\n$")
  return text, tonumber(status), printed, err
end

-- Returns when other processes wait for the object of that name, and all of them sleep, as a reader sees it.
local WAITED_FOR <const> = [[
  local view = require("mpengine.look").program(mp.current_process().pid)
  local function waited_for(name)
    local is
    repeat
      co.sleep(0.001)
      view:refresh()
      is = false
      for _, o in ipairs(view.view:objects()) do is = is or o.name == name and #(o.waiting or {}) > 0 end
      for _, p in ipairs(view.processes) do is = is and (p.sleeps or p.pid == view.pid) end
    until is
  end
]]

local WORK <const> = WAITED_FOR .. [[
  local q, lock = mp.Queue{ name = "jobs" }, mp.Lock{ name = "till" }
  local function eat() for v in q:iter() do lock:acquire() co.sleep(0.001) lock:release() end end
  local function tick() for _ = 1, 3 do co.sleep(0.001) end end
  local ps = {}
  for i = 1, 2 do
    ps[i] = mp.Process{ target = eat, name = "eater-" .. i }
    ps[i]:start()
  end
  waited_for "jobs"
  local t = co.spawn(tick)
  for i = 1, 20 do q:put(i) co.sleep(0.001) end
  q:close()
  for i = 1, 2 do ps[i]:join() end
  t:join()
  print "done"
]]

describe("mpengine --trace", function()
  it("says what a task waits for inside its process, by kind, name or place", function()
    local t = check(traced [[
      local q, lock, e = co.Queue{ name = "jobs" }, co.Lock(), co.Event{ name = "stop'" }
      local function eat() for _ in q:iter() do lock:acquire() co.sleep(0) lock:release() end end
      local function stop() e:wait() end
      local a, b, c = co.spawn(eat), co.spawn(eat), co.spawn(stop)
      co.sleep(0)
      for i = 1, 4 do q:put(i) end
      q:close()
      co.joinall { a, b }
      local t = co.spawn(function() e:set() end)
      c:join()
      co.wait({ co.Event(), mp.Event() }, 0.001)
    ]])
    local function waits(what) return #events(t, { ph = "X", cat = "wait", name = "waits for " .. what }) end
    assert.equal(2, waits "mp.co.Queue 'jobs'")
    assert.truthy(waits "mp.co.Lock made at script.lua:1" >= 1)
    assert.equal(1, waits "mp.co.Event 'stop\\''")
    assert.equal(1, waits "mp.Task 'stop'")
    assert.equal(1, waits "the ends of tasks")
    assert.equal(1, waits "any of several")
    assert.equal(0, waits "other tasks")
  end)

  it("writes tasks, waits, locks and the way of each item from its producer to its consumer", function()
    local text, status, printed = traced(WORK)
    assert.equal(0, status)
    assert.equal("done\n", printed)
    local t = check(text)
    assert.equal(0, t.otherData.dropped)
    local main, one, two = pid_of(t, "MainProcess"), pid_of(t, "eater-1"), pid_of(t, "eater-2")
    assert.equal(20, #events(t, { ph = "X", name = "put mp.Queue 'jobs'", pid = main }))
    local got = #events(t, { ph = "X", name = "get mp.Queue 'jobs'", pid = one })
      + #events(t, { ph = "X", name = "get mp.Queue 'jobs'", pid = two })
    assert.equal(20, got)
    assert.equal(20, #events(t, { ph = "s", cat = "queue", pid = main }))
    assert.equal(20, #events(t, { ph = "f", cat = "queue" }))
    assert.equal(20, #events(t, { ph = "b", cat = "lock", name = "mp.Lock 'till'" }))
    assert.equal(2, #events(t, { ph = "f", name = "start" }))
    assert.truthy(#events(t, { ph = "X", cat = "wait", name = "waits for mp.Queue 'jobs'" }) > 0)
    assert.equal(1, #events(t, { ph = "i", name = "spawn tick", pid = main }))
    assert.truthy(#events(t, { ph = "X", cat = "task", name = "tick", pid = main }) >= 3)
  end)

  it("shows which lock its next owner has waited for, and the items of a pool", function()
    local t = check((traced [[
      local lock, held = mp.Lock{ name = "one" }, mp.Event()
      local p = mp.Process{ target = function() held:wait() lock:acquire() lock:release() end, name = "later" }
      p:start()
      lock:acquire() held:set() co.sleep(0.05) lock:release() p:join()
      local pool <close> = mp.Pool(1)
      pool:map(function(v) return v end, { 1, 2, 3 })
    ]]))
    assert.equal(pid_of(t, "later"), events(t, { ph = "f", cat = "lock" })[1].pid)
    assert.equal(pid_of(t, "MainProcess"), events(t, { ph = "s", cat = "lock" })[1].pid)
    assert.truthy(#events(t, { ph = "X", cat = "pool" }) >= 1)
  end)

  -- What a test of the sorts below looks for: moves of a process, and an arrow to it.
  local function moves(t, name, pid) return #events(t, { ph = "X", name = name, pid = pid }) end
  local function arrow(t, name, cat, from, to)
    local found = 0
    for _, e in ipairs(events(t, { ph = "f", name = name, cat = cat, pid = to })) do
      found = found + #events(t, { ph = "s", id = e.id, pid = from })
    end
    return found
  end

  it("has what is done with semaphores, events, barriers and conditions, and whose wait it ends", function()
    local t = check((traced(WAITED_FOR .. [[
      local permits, go = mp.Semaphore{ value = 0, name = "permits" }, mp.Event{ name = "go" }
      local meet, changed = mp.Barrier{ parties = 2, name = "meet" }, mp.Condition{ name = "changed" }
      local joins = mp.Queue()
      local p = mp.Process{ name = "child", target = function()
        permits:acquire()
        go:wait()
        meet:wait()
        changed:acquire() changed:wait() changed:release()
        joins:get()
        local own = require("mpengine.look").program(mp.current_process().pid)
        repeat -- until the process that joins it sleeps
          mp.sleep(0.001)
          own:refresh()
        until own.processes[1].sleeps
      end }
      p:start()
      waited_for "permits" permits:release()
      waited_for "go" go:set()
      waited_for "meet" meet:wait()
      waited_for "changed" changed:acquire() changed:notify(1) changed:release()
      joins:put(true)
      p:join()
      go:clear() meet:abort() meet:reset()
    ]])))
    local main, child = pid_of(t, "MainProcess"), pid_of(t, "child")
    assert.equal(1, moves(t, "release mp.Semaphore 'permits'", main))
    assert.equal(1, moves(t, "acquire mp.Semaphore 'permits'", child))
    assert.equal(1, moves(t, "set mp.Event 'go'", main))
    assert.equal(1, moves(t, "clear mp.Event 'go'", main))
    assert.equal(1, moves(t, "arrive at mp.Barrier 'meet'", main))
    assert.equal(1, moves(t, "arrive at mp.Barrier 'meet'", child))
    assert.equal(1, moves(t, "open mp.Barrier 'meet'", main))
    assert.equal(1, moves(t, "abort mp.Barrier 'meet'", main))
    assert.equal(1, moves(t, "reset mp.Barrier 'meet'", main))
    assert.equal(1, moves(t, "notify mp.Condition 'changed'", main))
    for _, cat in ipairs { "semaphore", "event", "barrier", "condition" } do
      assert.equal(1, arrow(t, "wake", cat, main, child), cat)
    end
    assert.equal(1, arrow(t, "exit", "process", child, main))
    assert.equal(1, moves(t, "waits for the end of process child (pid " .. child .. ")", main))
  end)

  it("has what is changed in dicts and lists, and what goes through a pipe", function()
    local t = check((traced [[
      local d, l = mp.Dict({}, { name = "counts" }), mp.List({}, { name = "log" })
      local a, b = mp.Pipe{ name = "tube" }
      local p = mp.Process{ name = "child", target = function()
        assert(b:recv() == "hello")
        b:send "bye"
        d.x = 1
        d:pop "x"
        d:update{ a = 1, b = 2 }
        d:clear()
        l:append(1)
        l[1] = 2
        l:pop()
        l:extend{ 1, 2 }
        l:clear()
        return d.x, l[1] -- reading changes nothing
      end }
      p:start()
      a:send "hello"
      a:recv()
      p:join()
    ]]))
    local main, child = pid_of(t, "MainProcess"), pid_of(t, "child")
    local function only(name) assert.equal(1, moves(t, name, child), name) end
    only "set in mp.Dict 'counts'"
    only "remove from mp.Dict 'counts'"
    only "update mp.Dict 'counts'"
    only "clear mp.Dict 'counts'"
    only "set in mp.List 'log'"
    only "remove from mp.List 'log'"
    only "update mp.List 'log'"
    only "clear mp.List 'log'"
    only "send to mp.Pipe 'tube'"
    only "receive from mp.Pipe 'tube'"
    assert.equal(1, arrow(t, "item", "pipe", main, child))
    assert.equal(1, arrow(t, "item", "pipe", child, main))
    assert.equal(0, #events(t, { cat = "queue" }))
  end)

  it("has which task wakes which of its process, threads that work for one, room in a queue, and deaths", function()
    local t = check((traced [[
      local done, full = co.Event{ name = "done" }, mp.Queue{ maxsize = 1, name = "full" }
      local function sleeper() done:wait() end
      local s = co.spawn(sleeper)
      local function waker() co.sleep(0.001) done:set() end
      co.spawn(waker)
      s:join()
      assert(co.offload(function() return 7 end) == 7)
      local p = mp.Process{ name = "eater", target = function() full:get() full:get() end }
      full:put(1)
      local putter = co.spawn(function() full:put(2) end)
      co.sleep(0.001)
      p:start()
      p:join()
      putter:join()
      local ready = mp.Event()
      local v = mp.Process{ name = "victim", target = function() ready:set() mp.sleep(1000) end }
      v:start()
      ready:wait()
      v:kill()
      v:join()
      mp.Process(function() end):start() -- takes the slot of the dead one
    ]]))
    local main, eater = pid_of(t, "MainProcess"), pid_of(t, "eater")
    local function tid_of(name)
      for _, e in ipairs(events(t, { ph = "M", name = "thread_name", pid = main })) do
        if e.args.name:find(name, 1, true) == 1 then return e.tid end
      end
    end
    local to = events(t, { ph = "f", name = "wake", cat = "task", tid = tid_of "sleeper" })
    assert.equal(1, #to)
    assert.equal(tid_of "waker", events(t, { ph = "s", id = to[1].id })[1].tid)
    assert.equal(1, #events(t, { ph = "X", cat = "offload", name = "offloaded by main", pid = main }))
    assert.truthy(tid_of "thread for main")
    assert.equal(1, arrow(t, "room", "queue", eater, main))
    assert.equal(1, #events(t, { ph = "i", name = ("finds that process victim (pid %d) was killed"):format(
      pid_of(t, "victim")) }))
  end)

  it("has the script's output, arguments, errors, exit status and signals", function()
    local text, status, printed = traced("print(arg[0], arg[1]) os.exit(7)", nil, "'a b'")
    assert.equal(7, status)
    assert.equal("script.lua\ta b\n", printed)
    check(text)
    local err
    text, status, printed, err = traced "error('oh no')"
    assert.equal(1, status)
    assert.equal("", printed)
    says(err, "oh no", "script.lua:1")
    check(text)
    text, status = traced [[
      local p = mp.Process(function() mp.sleep(1000) end) p:start()
      os.execute('kill -KILL ' .. mp.current_process().pid .. ' ' .. p.pid)
      mp.sleep(1000)
    ]]
    assert.equal(137, status)
    check(text)
  end)

  it("refuses a name that says no form, or cannot be written", function()
    for path, code in pairs { ["x.png"] = 2, ["/nowhere/x.json"] = 1 } do
      local r = run("--trace=" .. path, "-e", "'print(1)'")
      assert.equal(code, r.status)
      assert.equal("", r.stdout)
      says(r.stderr, "mpengine --trace: ")
    end
  end)
end)

describe("mpengine trace", function()
  it("is switched on while the program runs, and off again", function()
    with_program([[
      local q = mp.Queue{ name = "flow" }
      local function take() while true do q:get() end end
      mp.Process{ target = take, name = "taker" }:start()
      mp.Process{ target = function() mp.Queue{ name = "never" }:get() end, name = "idle" }:start()
      local function give() for i = 1, 20 do q:put(i) co.sleep(0.002) end end
      mp.signal("USR1", function()
        co.spawn(give):join()
        while not q:empty() do co.sleep(0.001) end
        io.stdout:write("done\n") io.stdout:flush()
      end)
    ]] .. TICKS .. READY .. "mp.sleep(1000)", function(pid, dir, _, pipe)
      for _ = 1, 2 do -- the second one is a trace of its own
        local t = check((trace_of_usr1(pid, dir, pipe)))
        assert.truthy(#events(t, { ph = "s", cat = "queue", pid = pid }) > 10)
        assert.truthy(#events(t, { ph = "f", cat = "queue", pid = pid_of(t, "taker") }) > 10)
        assert.truthy(#events(t, { ph = "X", cat = "task", name = "give", pid = pid }) > 10)
        assert.truthy(pid_of(t, "idle"))
        assert.falsy(shell("ls -l /proc/" .. pid .. "/fd"):find("trace-mpengine", 1, true))
      end
    end)
  end)

  it("gives its file at once when the program ends", function()
    with_program("mp.signal('USR1', function() os.exit(0) end)\n" .. TICKS .. READY .. "mp.sleep(1000)",
      function(pid, dir, _, pipe)
        local path = dir .. "/out.json"
        local status, printed = look.read_while("trace", pid, path, function(reader)
          shell("kill -USR1 " .. pid)
          assert.is_nil(pipe:read())
          assert.is_true(support.eventually(function() return support.dead(reader) end))
        end)
        assert.same({ 0, "" }, { status, printed })
        check(support.read_file(path))
      end)
  end)

  it("gives its file when it is interrupted, and a profile too", function()
    with_program(TICKS .. READY .. "mp.sleep(1000)", function(pid, dir)
      for verb, form in pairs { trace = "json", profile = "folded" } do
        local path = dir .. "/out." .. form
        assert.same({ 0, "" }, { look.read_while(verb, pid, path, function() end) })
        local text = support.read_file(path)
        assert.truthy(#text > 20)
        if verb == "trace" then check(text) end
      end
    end)
  end)

  it("keeps what a process noted that was killed, and goes on", function()
    with_program([[
      local q, has_put = mp.Queue{ name = "q" }, mp.Event()
      local function put() for i = 1, 50 do q:put(i) end has_put:set() mp.sleep(1000) end
      local p = mp.Process{ target = put, name = "victim" }
      mp.signal("USR1", function()
        p:start() has_put:wait() p:kill() p:join()
        io.stdout:write("done\n") io.stdout:flush()
      end)
    ]] .. TICKS .. READY .. "mp.sleep(1000)", function(pid, dir, _, pipe)
      local t = check((trace_of_usr1(pid, dir, pipe)))
      assert.truthy(#events(t, { ph = "X", name = "put mp.Queue 'q'", pid = pid_of(t, "victim") }) > 10)
    end)
  end)

  -- The document of the page once its script has run, opened with a search.
  local function in_browser(text, search)
    local dir = shell("mktemp -d"):gsub("\n", "")
    support.write_file(dir .. "/out.html", text)
    local part = search and "#" .. search:gsub("[ ']", { [" "] = "%20", ["'"] = "%27" }) or ""
    local dom = shell((support.limit .. " chromium --headless --no-sandbox --disable-gpu --dump-dom "
      .. "'file://%s/out.html%s' 2>/dev/null"):format(dir, part))
    shell("rm -rf " .. quote(dir))
    return dom
  end

  it("writes a page that loads nothing", function()
    local text = traced(WORK, "html")
    says(text, "<!DOCTYPE html>", '<script type="application/json" id="data">', "put mp.Queue 'jobs'", "</html>")
    assert.falsy(text:find("https?://"))
    local data = text:match('id="data">\n(.-)\n</script>')
    check(data)
    if shell("command -v chromium") == "" then return end
    local dom = in_browser(text, "till")
    says(dom, " found</span>", "mp.Lock 'till'", "<b id=\"title\">script.lua (pid ")
  end)

  it("shows the calls of all kinds of objects in the page", function()
    if shell("command -v chromium") == "" then return pending "chromium is not installed" end
    local text = traced(WAITED_FOR .. [[
      local permits, counts = mp.Semaphore{ value = 0, name = "permits" }, mp.Dict({}, { name = "counts" })
      local p = mp.Process{ target = function() permits:acquire() counts.x = 1 end }
      p:start()
      waited_for "permits"
      permits:release()
      p:join()
    ]], "html")
    says(in_browser(text, "release mp.semaphore"), ">1 found</span>", "release mp.Semaphore 'permits'\nmain")
    says(in_browser(text, "set in mp.dict 'counts'"), ">1 found</span>", "set in mp.Dict 'counts'\nmain")
    -- what the page has read, by a script of the test's own behind its script
    local probe = [[<script>document.title = timeline.flows.map(function (f) { return f.from.name; }).sort().join();
      </script>]]
    says(in_browser((text:gsub("</body>", function() return probe .. "</body>" end))),
      "<title>exit,start,wake</title>")
  end)

  it("refuses what it cannot do, on stderr alone", function()
    local function refuses(status, words, ...)
      local r = run("trace", ...)
      assert.equal(status, r.status)
      assert.equal("", r.stdout)
      says(r.stderr, "mpengine trace: ", words)
    end
    refuses(2, "-o is missing", "1")
    refuses(2, "is no name of an output", "1", "-o", "x.svg")
    refuses(2, "seconds", "1", "-o", "x.json", "--seconds", "0")
    refuses(1, "there is no process", "4999999", "-o", "x.json")
    with_program(READY .. "mp.sleep(1000)", function(pid)
      refuses(1, "cannot write: /nowhere/x.json", tostring(pid), "-o", "/nowhere/x.json")
    end)
  end)

  it("writes all of a new trace over a longer file, and into a pipe", function()
    with_program("co.spawn(function() while true do co.sleep(0.01) end end)\n" .. READY .. "mp.sleep(1000)",
      function(pid, dir)
        support.write_file(dir .. "/old.json", ("x"):rep(10000000))
        shell(("mkfifo %s/pipe.json; cat %s/pipe.json >%s/got &"):format(quote(dir), quote(dir), quote(dir)))
        for written, name in pairs { ["old.json"] = "old.json", ["pipe.json"] = "got" } do
          local path = dir .. "/" .. written
          assert.equal(0, run("trace", tostring(pid), "-o", quote(path), "--seconds", "0.1").status)
          assert.truthy(support.eventually(function()
            return pcall(check, support.read_file(dir .. "/" .. name))
          end))
        end
      end)
  end)
end)
