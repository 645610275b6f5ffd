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
        for i = 1, 12 do q:put(i) end -- nobody goes on until all twelve are in
        assert(met:wait(10), "somebody was not woken in round " .. round)
      end
      q:close()
      all(list)]], { timeout = 60 })
  end)

  it("wakes others when one that was called is killed, or waits no more", function()
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
        until_true(function() return q:empty() end) -- whoever was called: nothing stays
        list[k] = P(function() while true do if q:get(0.0005) then got:add(1) end end end)
      end
      for _, p in ipairs(list) do kill(p.pid) p:join() lost = lost + 1 end
      q:put("end")
      all{ patient }
      assert(put - got.value <= lost, put - got.value .. " messages lost by " .. lost .. " kills")]], { timeout = 60 })
  end)
end)
