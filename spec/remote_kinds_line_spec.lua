-- Each kind of object over a line that cuts, delays, holds and half-closes while it is used, beside the same object
-- over a good line.
local support = require "spec.support"
local redis = require "spec.support.redis"

local HEAD = redis.LINE .. [[
local m, sure = mp.Manager(LINE, { lease = 2 }), open()
-- A change that says that it may have been made.
local unsure = 0
local function maybe(f, ...)
  local r = table.pack(pcall(f, ...))
  if r[1] then return table.unpack(r, 2, r.n) end
  if type(r[2]) ~= "table" or r[2].kind ~= "maybe_applied" then error(r[2], 0) end
  unsure = unsure + 1
end
local function between(n, low, high)
  if not (low <= n and n <= high) then error(("%s is not from %s to %s"):format(n, low, high), 2) end
end
-- Runs tasks of f while the line is bad in all its ways.
local function storm(count, f)
  local tasks, left = {}, count
  for i = 1, count do
    tasks[i] = co.spawn(function()
      local _ <close> = setmetatable({}, { __close = function() left = left - 1 end })
      f(i)
    end)
  end
  local ways, i = { "every 600", "delay 20", "cut", "half", "hold", "every 3000", "cut" }, 0
  while left > 0 do
    i = i + 1
    line(ways[(i - 1) % #ways + 1])
    co.sleep(0.06)
    if i % 3 == 0 then line "calm" co.sleep(0.03) end
  end
  line "calm"
  for _, t in ipairs(tasks) do t:get(60) end
end
]]

local function over(code)
  redis.with_server("", HEAD .. code .. "\nproxy:kill()", { timeout = 100 })
end

describe("over a line that is bad in all ways", function()
  it("a lock excludes, and each increment that it guards is made once", function()
    support.since("5.4.3", "lets a wait in a close handler end only after those that began later")
    over [[
      local inside, fences = 0, {}
      for _, kind in ipairs{ "Lock", "RLock" } do
        local d = sure:dict(kind)
        storm(4, function()
          local l = m[kind](m, "l")
          for _ = 1, 25 do
            l:acquire()
            inside = inside + 1
            eq(inside, 1)
            local fence = l.fence
            eq(fences[fence], nil)
            fences[fence] = true
            d.n = d:get("n", 0) + 1
            inside = inside - 1
            l:release()
          end
        end)
        eq({ d.n, m[kind](m, "l"):locked() }, { 100, false })
      end
    ]]
  end)

  it("semaphores let in as many as there are permits, and lose none", function()
    support.since("5.4.3", "lets a wait in a close handler end only after those that began later")
    over [[
      for _, kind in ipairs{ "Semaphore", "BoundedSemaphore" } do
        local inside = 0
        storm(5, function()
          local s = m[kind](m, "s", 2)
          for _ = 1, 20 do
            s:acquire()
            inside = inside + 1
            between(inside, 1, 2)
            co.sleep(0)
            inside = inside - 1
            s:release()
          end
        end)
        eq(sure[kind](sure, "s", 2):get_value(), 2)
      end
    ]]
  end)

  it("an event wakes all that wait, a condition those that are notified", function()
    over [[
            storm(4, function(i)
        for round = 1, 10 do
          if i == 1 then
            sure:Event("e" .. round):set()
          else
            eq(m:Event("e" .. round):wait(30), true)
          end
        end
      end)
      local c, d = m:Condition "c", sure:dict "turns"
      d.n = 0
      storm(3, function(i)
        for round = 0, 9 do
          c:acquire()
          while d.n ~= round * 3 + i - 1 do c:wait(30) end
          d.n = d.n + 1
          maybe(c.notify_all, c)
          c:release()
        end
      end)
      eq({ d.n, c:locked() }, { 30, false })
    ]]
  end)

  it("a barrier counts each party once, and gives each its number", function()
    over [[
      local seen = {}
      storm(3, function()
        local b = m:Barrier("b", 3)
        for round = 1, 15 do
          local i = b:wait(30)
          seen[round] = seen[round] or {}
          eq(seen[round][i], nil)
          seen[round][i] = true
        end
      end)
      for round = 1, 15 do eq(seen[round], { true, true, true }) end
      eq({ sure:Barrier("b", 3).n_waiting, sure:Barrier("b", 3).broken }, { 0, false })
    ]]
  end)

  it("a queue with a bound loses, doubles and swaps nothing", function()
    over [[
      local q, taken = m:JoinableQueue("q", 3), {}
      storm(2, function(i)
        if i == 1 then
          for n = 1, 150 do eq(q:put(n, 60), true) end
          q:close()
        else
          for n in q:iter() do taken[#taken + 1] = n end
        end
      end)
      eq(#taken, 150)
      for n = 1, 150 do eq(taken[n], n) end
      for _ = 1, 150 do sure:JoinableQueue("q", 3):task_done() end
      eq(m:JoinableQueue("q", 3):join(5), true)
      until_true(function() return cli("HLEN", "mp:{default}:queueh:q"):find "^0" end)
    ]]
  end)

  it("a dict and a list have what was stored, and say which changes are not known", function()
    over [[
      local d, l = m:dict "d", m:list "l"
      storm(3, function(i)
        for n = 1, 30 do
          d[i .. " " .. n] = { n }
          eq(d[i .. " " .. n], { n })
          maybe(d.incr, d, "n")
          maybe(l.append, l, n)
        end
      end)
      local there, items = sure:dict "d", sure:list "l"
      for i = 1, 3 do
        for n = 1, 30 do eq(there[i .. " " .. n], { n }) end
      end
      eq(#there, 91)
      between(there.n, 90 - unsure, 90)
      between(#items, 90 - unsure, 90)
      between(180 - there.n - #items, 0, unsure)
    ]]
  end)

  it("arrays and values keep whole numbers, and count what they are added", function()
    over [[
      local a, v = m:Array("a", "q", 8), m:Value("v", "d", 0)
      storm(4, function(i)
        for n = 1, 25 do
          a[i] = n << 40 | i
          eq(a[i], n << 40 | i)
          a:set({ n * i, -n * i }, 5)
          local pair = a:totable(5, 6)
          eq(pair[1] + pair[2], 0)
          maybe(v.add, v, 0.5)
        end
      end)
      for i = 1, 4 do eq(sure:Array "a"[i], 25 << 40 | i) end
      between(sure:Value "v".value * 2, 100 - unsure, 100)
    ]]
  end)

  it("a cache computes a value once at a time, a limiter lets no more through than its rate", function()
    over [[
      local inside, computed = 0, 0
      local from = mp.now()
      storm(4, function()
        local cache, r = m:Cache("c", { size = "1M" }), m:RateLimiter("r", { rate = 200, burst = 1 })
        for n = 1, 15 do
          eq(cache:fetch("k" .. n, function()
            inside = inside + 1
            eq(inside, 1)
            co.sleep(0.001)
            inside = inside - 1
            computed = computed + 1
            return n
          end), n)
          eq(r:acquire(1, 30), true)
        end
      end)
      eq(computed, 15)
      between(mp.now() - from, 59 / 200, 100)
    ]]
  end)

  it("the tasks of a pool run once, and each result comes once", function()
    over [[
      local w = mp.subprocess.Popen{ COMMAND, "worker", "--lease", "2", "-j2", "--allow", "math.*",
        "redis://127.0.0.1:" .. tostring(m):match ":(%d+)", stderr = "null" }
      local times = {}
      storm(3, function(i)
        local pool = m:Pool()
        for n = 1, 30 do
          eq(pool:apply_async("math.abs", { -n }, { callback = function(v)
            eq(v, n)
            times[i * 100 + n] = (times[i * 100 + n] or 0) + 1
          end }):get(60), n)
        end
      end)
      for i = 1, 3 do
        for n = 1, 30 do eq(times[i * 100 + n], 1) end
      end
      matches(cli("HGETALL", "mp:{default}:counts"):gsub("%s+", " "), "default done 90")
      w:kill "TERM"
      eq(w:wait(20), 0)
    ]]
  end)
end)
