-- mp.retry: what is called again and when, what is raised, and what no option holds back.
local support = require "spec.support"
local ok = support.ok

-- fails(n, ...) is a function that raises n times "failure 1", "failure 2"..., then returns the rest.
local HEAD = [[
  local co, calls = mp.co, 0
  local QUICK = { 0.001, 0.002 }
  local function fails(n, ...)
    local results = table.pack(...)
    return function()
      calls = calls + 1
      if calls <= n then error("failure " .. calls, 0) end
      return table.unpack(results, 1, results.n)
    end
  end
]]
local function holds(code) return ok(HEAD:gsub("\n%s*", " ") .. code) end

describe("mp.retry", function()
  it("returns all results of the call that succeeds", function()
    holds[[
      eq(table.pack(mp.retry(fails(2, 1, nil, 3, nil), { backoff = QUICK })), { 1, nil, 3, nil, n = 4 })
      eq(calls, 3)
      eq(select("#", mp.retry(function() end)), 0)]]
  end)

  it("raises the last error unchanged, after `times` calls", function()
    holds[[
      local err = { "an object" }
      local n = 0
      local good, e = pcall(mp.retry, function() n = n + 1 if n == 4 then error(err) end error("early") end,
        { times = 4, backoff = QUICK })
      eq(good, false) eq(e == err, true) eq(n, 4)
      eq({ pcall(mp.retry, fails(9), { times = 1, backoff = QUICK }) }, { false, "failure 1" })
      eq(calls, 1)
      calls = 0
      eq({ pcall(mp.retry, fails(9), { backoff = QUICK }) }, { false, "failure 3" })
      calls = 0
      eq(mp.retry(fails(500, "in the end"), { times = math.huge, backoff = { 0, 0 } }), "in the end")]]
  end)

  it("shows where the last error was raised", function()
    local r = support.run([[
      local function deep() error("no luck") end
      mp.retry(function() deep() end, { times = 2, backoff = 0.001 })]])
    assert.equal(1, r.status)
    assert.truthy(r.stderr:find("script.lua:1: no luck", 1, true), r.stderr)
    assert.truthy(r.stderr:find("'deep'", 1, true), r.stderr)
  end)

  it("calls again for the errors that the function `on` chooses", function()
    holds[[
      local asked = {}
      local function on(err, attempt) asked[#asked + 1] = { err, attempt } return attempt < 2 end
      eq({ pcall(mp.retry, fails(9), { times = 9, backoff = QUICK, on = on }) }, { false, "failure 2" })
      eq(asked, { { "failure 1", 1 }, { "failure 2", 2 } })
      eq({ pcall(mp.retry, fails(99), { on = function() error("of on", 0) end }) }, { false, "of on" })]]
  end)

  it("calls again for errors of the kinds of `on`", function()
    holds[[
      local function raised(kind)
        return function()
          calls = calls + 1
          error(require("mpengine.errors").new { kind = kind, message = kind }, 0)
        end
      end
      local function tries(f, on)
        calls = 0
        eq((pcall(mp.retry, f, { times = 3, backoff = QUICK, on = on })), false)
        return calls
      end
      eq(tries(raised("disconnected"), "disconnected"), 3)
      eq(tries(raised("disconnected"), { "timeout", "disconnected" }), 3)
      eq(tries(raised("disconnected"), { "timeout" }), 1)
      eq(tries(raised("disconnected"), "error"), 1)
      eq(tries(fails(9), "error"), 3)
      eq(tries(function() calls = calls + 1 error { kind = "mine" } end, "mine"), 1)]]
  end)

  it("waits between calls: each pause twice the one before, up to the longest", function()
    holds[[
      local times = {}
      pcall(mp.retry, function() times[#times + 1] = mp.now() error "x" end,
        { times = 5, jitter = 0, backoff = { 0.02, 0.05 } })
      for i, least in ipairs { 0.02, 0.04, 0.05, 0.05 } do
        local pause = times[i + 1] - times[i]
        if pause < least - 0.002 then error(("pause %d: %g"):format(i, pause)) end
      end]]
  end)

  it("varies the pauses by jitter, within the shortest and the longest, and never gathers them at one", function()
    ok[[
      local restart = require "mpengine.restart"
      local function taken(first, most, jitter, steps)
        local seen, least, greatest = {}, math.huge, 0
        for _ = 1, 200 do
          local pauses = restart.pauses(first, most, jitter)
          for _ = 2, steps do pauses:take() end
          local pause = pauses:take()
          seen[pause] = (seen[pause] or 0) + 1
          least, greatest = math.min(least, pause), math.max(greatest, pause)
        end
        local often = 0
        for _, n in pairs(seen) do often = math.max(often, n) end
        return least, greatest, often
      end
      for _, case in ipairs { { 1, 0.25, 1, 1.25 }, { 2, 0.25, 1.5, 2.5 }, { 3, 0.5, 2, 6 }, { 9, 0.25, 6, 8 },
        { 9, 1, 1, 8 } } do
        local steps, jitter, low, high = table.unpack(case)
        local least, greatest, often = taken(1, 8, jitter, steps)
        assert(least >= low and greatest <= high, ("%g to %g after %d"):format(least, greatest, steps))
        assert(least < low + (high - low) / 4 and greatest > high - (high - low) / 4, steps)
        assert(often < 5, often)
      end
      eq({ taken(1, 8, 0, 2) }, { 2.0, 2.0, 200 })
      eq({ taken(1, 1, 0.5, 3) }, { 1.0, 1.0, 200 })]]
  end)

  it("suspends only the task", function()
    holds[[
      local t = co.spawn(mp.retry, fails(1, "done"), { backoff = { 0.2, 0.2 } })
      local turns = 0
      while not t:ready() do turns = turns + 1 co.sleep(0.001) end
      eq(t:get(), "done")
      if turns < 5 then error("only " .. turns .. " turns of the other task") end]]
  end)

  it("never retries a kill, in the function, in a pause, or caught by the function", function()
    holds[[
      local EVER = { times = math.huge, backoff = { 0, 0 } }
      local waits = co.spawn(mp.retry, function() calls = calls + 1 mp.sleep(60) end, EVER)
      local pauses = co.spawn(mp.retry, function() error "x" end, { backoff = { 60, 60 } })
      local hides = co.spawn(mp.retry, function()
        calls = calls + 1
        pcall(mp.sleep, 60)
        error "another"
      end, EVER)
      co.sleep(0)
      for _, t in ipairs { waits, pauses, hides } do
        t:kill()
        eq({ t:get(5) }, { nil, "killed" })
      end
      eq(calls, 2)]]
  end)

  it("ends with the time limit or the scope around it", function()
    holds[[
      local EVER = { times = math.huge, backoff = { 0, 0 } }
      eq({ co.with_timeout(0.05, mp.retry, function() mp.sleep(0.001) error "x" end, EVER) }, { nil, "timeout" })
      eq({ co.with_timeout(0.05, mp.retry, function() mp.sleep(60) end, EVER) }, { nil, "timeout" })
      local good, err = pcall(co.scope, function(s)
        s:spawn(function() co.sleep(0.02) error("of a sibling", 0) end)
        mp.retry(function() mp.sleep(60) end, EVER)
      end)
      eq({ good, err }, { false, "of a sibling" })
      eq(co.with_timeout(5, mp.retry, function()
        local done, why = co.with_timeout(0.01, mp.sleep, 60)
        calls = calls + 1
        if calls == 1 then error(why) end
        return done, why
      end, { backoff = QUICK }), nil)]]
  end)

  it("ends with the program's signals", function()
    local r = support.run(HEAD .. [[
      mp.retry(function() kill(mp.current_process().pid, "TERM") mp.sleep(60) end, { times = 99, backoff = QUICK })]])
    assert.equal(143, r.status, r.stderr)
  end)

  it("names a wrong option", function()
    ok[[
      raises({ "bad argument #1 to 'retry'", "function expected, got number" }, mp.retry, 5)
      raises({ "bad argument #2 to 'retry'", "table expected, got number" }, mp.retry, print, 5)
      local wrong = {
        times = { 0, -1, 1.5, "3", 0/0 }, backoff = { -1, "x", {}, { 1 }, { 2, 1 }, { 1, math.huge }, math.huge, 0/0 },
        jitter = { -0.1, 1.1, true, 0/0 }, on = { 5, {}, { 5 }, true },
      }
      for name, list in pairs(wrong) do
        for _, value in ipairs(list) do
          raises({ "retry: field '" .. name .. "' must be" }, mp.retry, print, { [name] = value })
        end
      end
      raises("retry: unknown field 'time'", mp.retry, print, { time = 3 })]]
  end)
end)
