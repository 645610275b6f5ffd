local support = require "spec.support"
local ok = support.ok

describe("a queue with many consumers asleep", function()
  it("wakes as many as there are messages, one after the other", function()
    ok([[
      local q, met = mp.Queue(), mp.Barrier(13)
      local list = {}
      for i = 1, 12 do list[i] = P(function() for _ in q:iter() do met:wait() end end) end
      for round = 1, 30 do
        for _, p in ipairs(list) do asleep(p.pid) end
        for i = 1, 12 do q:put(i) end -- no consumer goes on until all twelve are in
        assert(met:wait(10), "a consumer was not woken in round " .. round)
      end
      q:close()
      all(list)]], { timeout = 60 })
  end)

  it("wakes others when one that was called is killed, or no longer waits", function()
    ok([[
      local q, got = mp.Queue(), mp.Value("i", 0)
      local patient = P(function() for _ = 1, 1000000 do if q:get(60) == "end" then break end got:add(1) end end)
      local list = {}
      for i = 1, 6 do
        list[i] = P(function() while true do if q:get(0.0005) then got:add(1) end end end)
      end
      local lost, put = 0, 0
      for round = 1, 60 do
        asleep(patient.pid)
        for _ = 1, 5 do q:put(1) put = put + 1 end
        local k = round % 6 + 1
        kill(list[k].pid)
        list[k]:join()
        lost = lost + 1
        until_true(function() return q:empty() end) -- whichever was called: nothing stays
        list[k] = P(function() while true do if q:get(0.0005) then got:add(1) end end end)
      end
      for _, p in ipairs(list) do kill(p.pid) p:join() lost = lost + 1 end
      q:put("end")
      all{ patient }
      assert(put - got.value <= lost, put - got.value .. " messages lost by " .. lost .. " kills")]], { timeout = 60 })
  end)
end)

-- index % 31 is the bit of the bell: queues whose bits are the same wake each other's sleepers.
local same_bit = [[
  local function index(o) return tonumber(tostring(o):match("0x%x+")) & 0xffffff end
  local kept = {}
  local function beside(q)
    local other
    repeat
      other = mp.Queue()
      kept[#kept + 1] = other
    until (index(other) - index(q)) % 31 == 0
    return other
  end
]]

for _, kind in ipairs{ "Queue", "JoinableQueue" } do
  describe("a consumer wakes on a " .. kind .. " is woken", function()
    it("even if the process called for the message before sleeps elsewhere", function()
      ok(same_bit .. ([[
        local q, got, own, list = mp.KIND(), mp.Queue(), {}, {}
        for i = 1, 3 do
          own[i] = beside(q)
          list[i] = P(function()
            while q:get() do got:put(i) own[i]:get() end
          end)
        end
        for round = 1, 150 do
          for _, p in ipairs(list) do asleep(p.pid) end
          q:put(1)
          local t = now() + round % 40 * 1e-6
          while now() < t do end
          for i = 1, 3 do own[i]:put(1) end
          q:put(2) q:put(3)
          for i = 1, 3 do assert(got:get(10), "message " .. i .. " of round " .. round .. " lies there") end
        end
        for _, p in ipairs(list) do p:kill() p:join() end]]):gsub("KIND", kind), { timeout = 60 })
    end)

    it("even if another waiting process computes", function()
      ok((([[
        local q, got, go, over = mp.KIND(), mp.Queue(), mp.Event(), mp.RawValue("i", 0)
        local busy = P(function()
          local t = require("mpengine.co").spawn(function() got:put("busy " .. q:get()) end)
          mp.sleep(0)
          go:wait()
          got:put("begins")
          local till = now() + 40
          while over.value == 0 and now() < till do end
          t:join()
        end)
        asleep(busy.pid)
        local idle = P(function() for _ = 1, 3 do got:put("idle " .. q:get()) end end)
        asleep(idle.pid)
        go:set()
        eq(got:get(10), "begins")
        for i = 1, 3 do
          q:put(i)
          eq(got:get(20), "idle " .. i, "nil: the idle consumer slept beside a message")
        end
        over.value = 1
        q:put(4)
        eq(got:get(10), "busy 4")
        all{ busy, idle }]]):gsub("KIND", kind)), { timeout = 30 })
    end)

    it("even if waiting tasks of other processes are killed or time out", function()
      ok((([[
        local q, got = mp.KIND(), mp.Queue()
        local list = {}
        for k = 1, 2 do
          list[k] = P(function()
            local function take(seconds)
              local v = q:get(seconds)
              if v then got:put(v) end
            end
            while true do
              local tasks = {}
              for i = 1, 4 do tasks[i] = require("mpengine.co").spawn(take, i == 1 and 10 or i * 2e-4) end
              mp.sleep(k * 3e-4)
              for _, t in ipairs(tasks) do t:kill() end
              for _, t in ipairs(tasks) do pcall(t.join, t) end
            end
          end)
        end
        list[3] = P(function() while true do got:put(q:get()) end end)
        for round = 1, 400 do
          for i = 1, 3 do q:put(i) end
          for i = 1, 3 do assert(got:get(10), "message " .. i .. " of round " .. round) end
        end
        for _, p in ipairs(list) do p:kill() p:join() end]]):gsub("KIND", kind)), { timeout = 60 })
    end)

    it("even if a process with a waiting task forks, and its children wait, too", function()
      ok((([[
        local q, got = mp.KIND(), mp.Queue()
        local function take()
          while true do got:put(q:get()) end
        end
        local forker = P(function()
          require("mpengine.co").spawn(take)
          while true do
            local child = P(function()
              local v = q:get(0.001)
              if v then got:put(v) end
            end)
            child:join()
          end
        end)
        local idle = P(take)
        for round = 1, 300 do
          for i = 1, 3 do q:put(i) end
          for i = 1, 3 do assert(got:get(10), "message " .. i .. " of round " .. round) end
        end
        for _, p in ipairs{ forker, idle } do p:kill() p:join() end]]):gsub("KIND", kind)), { timeout = 60 })
    end)

    it("even if others wait for it among other queues", function()
      ok((([[
        local q, other, got = mp.KIND(), mp.KIND(), mp.Queue()
        local list = {}
        for k = 1, 3 do
          list[k] = P(function()
            while true do
              local r = k < 3 and mp.wait({ q, other }, 5) or { q }
              for _, ready in ipairs(r) do
                local v = k < 3 and ready:get(0) or k == 3 and ready:get()
                if v then got:put(v) end
              end
            end
          end)
        end
        for round = 1, 300 do
          q:put(round) other:put(-round) q:put(round)
          for i = 1, 3 do assert(got:get(10), "message " .. i .. " of round " .. round) end
        end
        for _, p in ipairs(list) do p:kill() p:join() end]]):gsub("KIND", kind)), { timeout = 60 })
    end)
  end)

  describe("a producer that waits for room in a " .. kind, function()
    it("has it even if another waiting process computes", function()
      ok((([[
        local q, said, go, over = mp.KIND(1), mp.Queue(), mp.Event(), mp.RawValue("i", 0)
        q:put(0)
        local busy = P(function()
          local t = require("mpengine.co").spawn(function() q:put("busy") end)
          mp.sleep(0)
          go:wait()
          said:put("begins")
          local till = now() + 40
          while over.value == 0 and now() < till do end
          t:join()
        end)
        asleep(busy.pid)
        local idle = P(function() for _ = 1, 2 do q:put("idle") end end)
        asleep(idle.pid)
        go:set()
        eq(said:get(10), "begins")
        eq(q:get(), 0)
        eq(q:get(20), "idle", "nil: the idle producer slept beside the room")
        eq(q:get(20), "idle")
        over.value = 1
        eq(q:get(10), "busy")
        all{ busy, idle }]]):gsub("KIND", kind)), { timeout = 30 })
    end)
  end)
end

describe("a lock that is released", function()
  it("is taken by a sleeping process even if another waiting process computes", function()
    ok([[
      local l, said, go, over = mp.Lock(), mp.Queue(), mp.Event(), mp.RawValue("i", 0)
      l:acquire()
      local busy = P(function()
        local t = require("mpengine.co").spawn(function() l:acquire() l:release() end)
        mp.sleep(0)
        go:wait()
        said:put("begins")
        local till = now() + 40
        while over.value == 0 and now() < till do end
        t:join()
      end)
      asleep(busy.pid)
      local idle = P(function() l:acquire() said:put("idle") l:release() end)
      asleep(idle.pid)
      go:set()
      eq(said:get(10), "begins")
      l:release()
      eq(said:get(20), "idle", "nil: the idle process slept beside the lock")
      over.value = 1
      all{ busy, idle }]], { timeout = 30 })
  end)
end)
