-- What is missing in a trace: events that were dropped, pauses, what the file has no room for; and readers
-- beside each other. Their texts are large.
local look = require "spec.support.look"
local support = require "spec.support"
local quote, shell = support.quote, support.shell
local with_program, run, says, json = look.with_program, look.mpengine, look.says, look.json

local READY <const> = "io.stdout:write('ready\\n') io.stdout:flush()\n"

local function trace(pid, dir, seconds)
  local path = dir .. "/out.json"
  local r = run("trace", tostring(pid), "-o", quote(path), "--seconds", tostring(seconds))
  assert.equal(0, r.status, r.stderr)
  assert.equal("", r.stdout)
  return support.read_file(path), r.stderr
end

describe("mpengine trace", function()
  -- The events of a large text, one a line, whose line has that part; each is read when it is asked for.
  local of_lines = { __len = function(list) return #list.lines end }
  function of_lines.__index(list, i)
    local line = list.lines[i]
    return line and json((line:gsub(",$", "")))
  end
  local function lines_with(text, part)
    local lines = {}
    for line in text:gmatch "[^\n]+" do
      if line:find(part, 1, true) then lines[#lines + 1] = line end
    end
    return setmetatable({ lines = lines }, of_lines)
  end

  -- What was dropped by the head, which must be what the events at the places where it is missing say.
  local function dropped(text)
    local sum, list = 0, lines_with(text, '"cat":"dropped"')
    for _, e in ipairs(list) do sum = sum + tonumber(e.name:match "^(%d+) events were dropped$") end
    assert.equal(tonumber(text:match '"dropped":(%d+)'), sum)
    return sum, list
  end

  -- A program that reads its own trace when the code says so: the text, and the pid of each process.
  local function own(code)
    local r = support.run([[
      local mp = require "mpengine"
      local core, events = require "mpengine.core", require "mpengine.look.events"
      local trace, look = require "mpengine.look.trace", require "mpengine.look"
      local program = look.program(mp.current_process().pid)
      local tracer = core.tracer()
      local self = trace.new(tracer, program)
      self.script, self.pid = "own", program.pid
      assert(tracer:start(program.view))
      local q = mp.Queue{ name = "q" }
      local function move(n) for i = 1, n do q:put(i) q:get() end end
      local function child(name, n, dies)
        local ready = mp.Event()
        local p = mp.Process{ name = name, target = function() move(n) ready:set() if dies then mp.sleep(1000) end end }
        p:start()
        ready:wait()
        if dies then p:kill() end
        p:join()
      end
    ]] .. code .. "\nio.write((events(trace.finish(self))))")
    assert.equal(0, r.status, r.stderr)
    local pids = {}
    for _, e in ipairs(lines_with(r.stdout, '"process_name"')) do pids[e.args.name] = e.pid end
    return r.stdout, pids
  end

  local function puts(text, pid)
    return lines_with(text, ([["name":"put mp.Queue 'q'","cat":"queue","pid":%d,]]):format(pid))
  end

  -- Begins a long trace into first.json, and goes on when the program notes events: its end of a pipe, its pid, and a
  -- function that checks that another trace is refused.
  local function begin_trace(pid, dir)
    local first = io.popen(("exec %s trace %d -o %s/first.json --seconds 1000 & echo $!; wait"):format(
      quote(support.command), pid, quote(dir)))
    local reader = first:read()
    assert.truthy(support.eventually(function()
      return support.read_file(("/proc/%d/maps"):format(pid)):find("trace-mpengine", 1, true)
    end))
    return first, reader, function()
      local r = run("trace", tostring(pid), "-o", quote(dir .. "/x.json"), "--seconds", "0.01")
      assert.equal(1, r.status)
      says(r.stderr, "is being traced by process " .. reader)
    end
  end

  -- The head of a large text.
  local function head(text) return json(text:match '"otherData":(%b{})') end

  it("says on standard error how much is missing", function()
    with_program([[
      local q = mp.Queue()
      local function spin() while true do q:put(1) q:get() end end
    ]] .. READY .. "spin()", function(pid, dir)
      local text, err = trace(pid, dir, 0.5)
      local sum, paused = dropped(text), head(text).paused
      assert.truthy(sum > 0 or paused > 0)
      if sum > 0 then says(err, sum .. " events were dropped: ") end
      if paused > 0 then says(err, ("paused for %.3g of 0."):format(paused):sub(1, 14)) end
    end)
  end)

  it("pauses when a process notes too much, for all at once, and goes on", function()
    local text, pids = own [[
      local go, done = mp.Semaphore(0), mp.Semaphore(0)
      mp.Process{ name = "other", daemon = true, target = function()
        for _ = 1, 3 do go:acquire() move(10) done:release() end
      end }:start()
      local function both(n) move(n) go:release() done:acquire() end
      trace.step(self)
      both(100)
      assert(not self.pause)
      trace.step(self)
      move(50000)
      trace.step(self)
      assert(self.pause)
      both(500)
      until_true(function() trace.step(self) return not self.pause end)
      both(20)
    ]]
    local of = { MainProcess = {}, other = {} }
    for name, list in pairs(of) do
      for _, e in ipairs(puts(text, pids[name])) do list[#list + 1] = e end
      local pauses = lines_with(text, ('"cat":"paused","pid":%d,'):format(pids[name]))
      assert.equal(1, #pauses)
      assert.equal("not traced", pauses[1].name)
      for _, e in ipairs(list) do
        assert.truthy(e.ts + e.dur <= pauses[1].ts or e.ts >= pauses[1].ts + pauses[1].dur)
      end
      assert.truthy(math.abs(head(text).paused * 1e6 - pauses[1].dur) < 1)
    end
    assert.equal(20, #of.other)
    local main = of.MainProcess
    assert.truthy(main[1].args.item == 0 and #main > 20)
    for i = 1, 20 do assert.equal(main[#main].args.item - 20 + i, main[#main - 20 + i].args.item) end
    dropped(text)
  end)

  it("is the reader's in a pause, too, and is given back when that is killed", function()
    with_program([[
      local q = mp.Queue()
      local function spin() while true do q:put(1) q:get() end end
    ]] .. READY .. "spin()", function(pid, dir)
      local first, reader, refuse = begin_trace(pid, dir)
      for _ = 1, 10 do refuse() end
      shell("kill -KILL " .. reader)
      first:close()
      assert.truthy(#trace(pid, dir, 0.1) > 1000)
    end)
  end)

  it("says it of each process", function()
    local text, pids = own [[
      local ready = mp.Semaphore(0)
      for _, name in ipairs { "one", "two" } do
        mp.Process{ name = name, daemon = true, target = function()
          move(35000)
          ready:release()
          mp.sleep(1000)
        end }:start()
      end
      for _ = 1, 2 do ready:acquire() end
      trace.go_on(self)
    ]]
    local _, list = dropped(text)
    local of = {}
    for _, e in ipairs(list) do of[e.pid] = true end
    assert.truthy(#list == 2 and of[pids.one] and of[pids.two])
  end)

  it("has what was before and after a time in which the reader was late", function()
    local text, pids = own "move(100) trace.go_on(self) move(100000) trace.go_on(self) move(100)"
    local sum, list = dropped(text)
    local all = puts(text, pids.MainProcess)
    assert.equal(1, #list)
    assert.truthy(sum >= 200400 - 2 * #all - 1 and sum <= 200400 - 2 * #all + 100) -- with notes of the name
    assert.equal(99, all[100].args.item)
    assert.truthy(all[100].ts <= list[1].ts and all[101].ts >= list[1].ts)
    assert.equal(100199, all[#all].args.item)
  end)

  it("has the last that a killed process noted in a full ring, and tells it from the next one in its slot", function()
    local text, pids = own "child('victim', 50000, true) child('next', 10) trace.go_on(self)"
    local sum, list = dropped(text)
    assert.truthy(sum >= 100000 - 65536)
    assert.equal(1, #list)
    assert.equal(pids.victim, list[1].pid)
    assert.equal(10, #puts(text, pids.next))
    local exits = lines_with(text, '"name":"exits"')
    assert.equal(1, #exits)
    assert.equal(pids.next, exits[1].pid)
    local left = puts(text, pids.victim)
    assert.equal(49999, left[#left].args.item)
    assert.truthy(#left > 32000)
  end)

  it("gives no process the events of another one whose ring was overwritten as a whole", function()
    local text, pids = own "child('first', 40000) child('second', 50000) trace.go_on(self)"
    assert.truthy(dropped(text) >= 180000 - 65536)
    assert.is_nil(pids.first)
    local all = puts(text, pids.second)
    assert.equal(#all, #lines_with(text, "put mp.Queue 'q'"))
    assert.equal(89999, all[#all].args.item)
    assert.truthy(all[1].args.item >= 40000)
  end)

  it("says what the file has no room for", function()
    local text, pids = own "for _ = 1, 15 do move(10000) trace.go_on(self) end"
    local sum, list = dropped(text)
    local all = puts(text, pids.MainProcess)
    assert.equal(1, #list)
    assert.truthy(#all > 130000 and sum >= 300000 - 262144)
    assert.equal(0, all[1].args.item)
  end)

  it("refuses a program that is being traced, and takes the place of a reader that was killed", function()
    with_program("co.spawn(function() while true do co.sleep(0.01) end end)\n" .. READY .. "mp.sleep(1000)",
      function(pid, dir)
        local first, reader, refuse = begin_trace(pid, dir)
        refuse()
        -- what was there stays: another trace, and the one that the first reader is about to write
        support.write_file(dir .. "/kept.json", "kept")
        for name, text in pairs { ["kept.json"] = "kept", ["first.json"] = "", ["new.json"] = false } do
          assert.equal(1, run("trace", tostring(pid), "-o", quote(dir .. "/" .. name)).status)
          local file = io.open(dir .. "/" .. name)
          assert.equal(text, file and file:read "a" or false)
          if file then file:close() end
        end
        shell("kill -KILL " .. reader)
        first:close()
        json((trace(pid, dir, 0.1)))
      end)
  end)
end)
