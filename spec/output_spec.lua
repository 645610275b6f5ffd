-- Output to a reader that does not read: the task that prints waits, the rest of the process goes
-- on.
local support = require "spec.support"
local quote = support.quote

-- Precedes the code of a scenario whose output is read only after open_gate() was called, by a task
-- that runs while another one prints.
local GATE = [[
  local mp = require "mpengine"
  local co = mp.co
  local function open_gate() assert(io.open(os.getenv "GATE", "w")):close() end
  local function open_later() for _ = 1, 20 do co.sleep(0.001) end open_gate() end
]]

-- f(name of a gate)
local function with_gate(f)
  local gate = os.tmpname()
  os.remove(gate)
  assert(os.execute("mkfifo " .. gate))
  local result = f(gate)
  os.remove(gate)
  return result
end

-- What the code prints, to a reader that begins with the gate.
local function through_gate(code)
  local result = with_gate(function(gate)
    return support.run(GATE .. code, {
      plain = true, env = { GATE = gate }, through = ("sh -c 'cat %s; cat'"):format(gate),
    })
  end)
  assert.equal(0, result.status, result.stderr)
  assert.equal("", result.stderr)
  return result.stdout
end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  return lines
end

describe("while the reader of stdout does not read", function()
  for name, call in pairs {
    ["print"] = "print(('x'):rep(1000))",
    ["io.write"] = "io.write(('x'):rep(1000), '\\n') io.flush()",
    ["io.stdout:write"] = "io.stdout:write(('x'):rep(1000), '\\n') io.stdout:flush()",
    ["io.write without a buffer"] = "io.stdout:setvbuf 'no' io.write(('x'):rep(1000), '\\n')",
  } do
    it(name .. " of a task suspends only that", function()
      local text = through_gate("co.spawn(open_later) co.spawn(function() for _ = 1, 300 do " .. call
        .. " end end):join()")
      assert.equal((("x"):rep(1000) .. "\n"):rep(300), text)
    end)

    it(name .. " of the main chunk lets the tasks go on", function()
      local text = through_gate("co.spawn(open_later) for _ = 1, 300 do " .. call .. " end")
      assert.equal((("x"):rep(1000) .. "\n"):rep(300), text)
    end)
  end

  it("one call may print more than the pipe takes", function()
    local text = through_gate[[
      co.spawn(open_later)
      print(("x"):rep(1000000))
      io.write(("y"):rep(1000000), "\n")]]
    assert.equal(("x"):rep(1000000) .. "\n" .. ("y"):rep(1000000) .. "\n", text)
  end)

  it("one call may do so where Lua cannot yield", function()
    local text = through_gate[[
      co.spawn(open_later)
      co.spawn(function()
        table.sort({ 2, 1 }, function(a, b) print(("x"):rep(200000)) return a < b end)
      end):join()]]
    assert.equal(200000, #lines_of(text)[1])
  end)

  it("lines of tasks stay whole, and in the order of each", function()
    local lines = lines_of(through_gate[[
      co.spawn(open_later)
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = co.spawn(function() for n = 1, 20 do print(i, n, ("x"):rep(i * 3000)) end end)
      end
      co.joinall(tasks)]])
    assert.equal(100, #lines)
    local last = {}
    for _, line in ipairs(lines) do
      local i, n, rest = line:match "^(%d)\t(%d+)\t(x+)$"
      assert.equal(tonumber(i) * 3000, #(rest or ""))
      assert.equal((last[i] or 0) + 1, tonumber(n))
      last[i] = tonumber(n)
    end
  end)

  it("lines of processes stay whole, and no process stops", function()
    local lines = lines_of(through_gate[[
      local ticked, list = mp.Barrier(4), {}
      local function child(i)
        mp.co.spawn(function() for _ = 1, 20 do mp.sleep(0.001) end ticked:wait() end)
        for _ = 1, 10 do print(i, (tostring(i)):rep(20000)) end
      end
      for i = 1, 3 do
        list[i] = mp.Process(child, i)
        list[i]:start()
      end
      co.spawn(function() ticked:wait() open_gate() end)
      print(("x"):rep(100000))
      for i = 1, 3 do list[i]:join() end]])
    assert.equal(31, #lines)
    for _, line in ipairs(lines) do
      local i, rest = line:match "^(%d)\t(.*)$"
      assert.equal(i and i:rep(20000) or ("x"):rep(100000), rest or line)
    end
  end)

  it("a task that is killed leaves no torn line", function()
    local text = through_gate[[
      local t = co.spawn(function() print(("x"):rep(300000)) print "never" end)
      co.sleep(0)
      t:kill("enough") t:join()
      assert(select(2, t:get()) == "killed")
      co.spawn(function() print "after" end)
      open_later()]]
    assert.equal(("x"):rep(300000) .. "\nafter\n", text)
  end)

  it("a task that is killed may still print while it cleans up", function()
    local text = through_gate[[
      local t = co.spawn(function()
        local ok = pcall(print, ("x"):rep(300000))
        print(ok, "cleaned up")
      end)
      co.sleep(0)
      t:kill() t:join()
      open_later()]]
    assert.equal(("x"):rep(300000) .. "\nfalse\tcleaned up\n", text)
  end)

  for name, ending in pairs {
    ["of the main chunk"] = "",
    ["by os.exit"] = "os.exit(0)",
    ["by os.exit that closes the state"] = "os.exit(true, true)",
  } do
    it("the rest is written at the end " .. name, function()
      local text = through_gate([[
        os.execute "(sleep 0.05; : >$GATE) >/dev/null &"
        co.spawn(function() print(("x"):rep(300000)) end)
        co.spawn(function() print "second" end)
        co.sleep(0) ]] .. ending)
      assert.equal(("x"):rep(300000) .. "\nsecond\n", text)
    end)
  end

  it("a process that is started prints nothing twice", function()
    local text = through_gate[[
      os.execute "(sleep 0.05; : >$GATE) >/dev/null &"
      co.spawn(function() print(("x"):rep(100000)) end)
      co.sleep(0)
      local p = mp.Process(function() print "child" end)
      p:start()
      p:join()]]
    assert.equal(("x"):rep(100000) .. "\nchild\n", text)
  end)

  it("output to stderr suspends only the task, too", function()
    local code = GATE .. [[
      co.spawn(open_later)
      co.spawn(function() for _ = 1, 300 do io.stderr:write(("x"):rep(1000), "\n") end end):join()
      io.stderr:write "end\n"]]
    local text = with_gate(function(gate)
      return support.shell(("{ GATE=%s %s %s -e %s 2>&1 >&3 | { cat %s; cat; } } 3>&1"):format(gate,
        support.limit, quote(support.command), quote(code), gate))
    end)
    assert.equal((("x"):rep(1000) .. "\n"):rep(300) .. "end\n", text)
  end)
end)

describe("output", function()
  it("that cannot be written is nil, message, errno", function()
    local code = [[
      local mp = require "mpengine"
      local t = mp.co.spawn(function() return io.write(("x"):rep(100000), "\n") end)
      mp.co.spawn(mp.sleep, 100)
      local results = table.pack(t:get())
      io.stderr:write(tostring(results[1]), " ", results[3], "\n")
      os.exit(0)]]
    local line = ("%s -e %s 2>&1 >/dev/full"):format(quote(support.command), quote(code))
    assert.equal("nil 28\n", support.shell(line))
  end)

  it("that was kept back and cannot be written is told by the call that sends it", function()
    for _, call in ipairs { "io.flush()", "io.stdout:flush()", "io.stdout:seek('cur')", "io.close()",
      "io.stdout:setvbuf('no')", "mp.co.spawn(io.flush):get()" } do
      local code = ([[
        local mp = require "mpengine"
        io.write "x"
        local good, _, number = %s
        io.stderr:write(tostring(good), " ", tostring(number), " ", tostring(io.flush()), "\n")]]):format(call)
      local line = ("%s -e %s 2>&1 >/dev/full"):format(quote(support.command), quote(code))
      assert.equal("nil 28 true\n", support.shell(line), call)
    end
  end)

  it("ends the program when its reader is gone while tasks wait", function()
    local code = [[
      local mp = require "mpengine"
      mp.co.spawn(function() while true do print(("x"):rep(1000)) end end)
      mp.sleep(100)]]
    local line = ("{ { " .. support.limit .. " %s -e %s; echo $? >&3; } | head -c 100000 >/dev/null; } 3>&1"):format(
      quote(support.command), quote(code))
    assert.equal("141\n", support.shell(line))
  end)
end)
