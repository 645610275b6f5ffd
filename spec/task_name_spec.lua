-- The names of tasks.
local support = require "spec.support"
local ok, prints = support.ok, support.prints

describe("a task", function()
  it("is called after its function: a global, a field or a local one", function()
    prints("produce\njobs.crawl\nlater\nM.field\nprint\n\nself.poll\n", [[
      local co = mp.co
      function produce() end
      local jobs = { crawl = function() end }
      local function later() end
      M = { field = function() end }
      local Poller = {}
      function Poller:start() return co.spawn(self.poll, self) end
      function Poller:poll() end
      for _, f in ipairs { produce, jobs.crawl, later, M.field, print } do print(co.spawn(f).name) end
      co.sleep(0)
      print(Poller:start().name)
    ]])
  end)

  it("is called after the place of its function when that has no name", function()
    prints("script.lua:2\nscript.lua:4\n", [[local co = mp.co
      print((co.spawn(function() end).name:gsub(".*/", "")))
      local function f()
        return co.spawn(function() end)
      end
      print((f().name:gsub(".*/", "")))
    ]])
  end)

  it("has that name in whatever way it was spawned, and when it has ended", function()
    ok [[
      local co = mp.co
      local names = {}
      local function work() names[#names + 1] = co.current().name end
      local group, pool = co.Group(), co.Pool(2)
      for _, t in ipairs { co.spawn(work), co.spawn_later(0, work), group:spawn(work), pool:spawn(work) } do
        t:join()
        eq(t.name, "work")
      end
      co.scope(function(s) eq(s:spawn(work).name, "work") end)
      pool:apply_async(work):get()
      pool:map(work, { 1 })
      eq(names, { "work", "work", "work", "work", "work", "work", "work" })
    ]]
  end)

  it("keeps a name that it is given", function()
    ok [[
      local t = mp.co.spawn(function() end)
      t.name = "mine"
      eq(t.name, "mine")
      t:join()
      eq(t.name, "mine")
    ]]
  end)

  it("of very many different functions still has a name", function()
    ok [[
      local co = mp.co
      for i = 1, 5000 do
        local f = load("return function() end", "=chunk" .. i)()
        local name = co.spawn(f).name
        assert(name == "f" or name:find("^Task%-%d+$"), name)
      end
    ]]
  end)
end)
