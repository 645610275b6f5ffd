local support = require "spec.support"
local ok = support.ok

-- Shared memory is back where it was once nobody can reach what was made in it: by loops that make
-- and drop, that store and replace, that share with a process which is killed.

local KINDS <const> = {
  Lock = "mp.Lock()", RLock = "mp.RLock()", Semaphore = "mp.Semaphore(2)", Event = "mp.Event()",
  Condition = "mp.Condition()", Barrier = "mp.Barrier(2)", Queue = "mp.Queue(4)",
  JoinableQueue = "mp.JoinableQueue()", Pipe = "mp.Pipe()", Array = "mp.Array('d', 20000)",
  Value = "mp.Value('i', 1)", RawArray = "mp.RawArray('B', 300000)",
  Dict = "mp.Dict{ a = 1, b = ('x'):rep(20000) }", List = "mp.List{ 1, ('x'):rep(20000) }",
}
local names = {}
for name in pairs(KINDS) do names[#names + 1] = name end
table.sort(names)

-- In the program: make() makes one; flat(rounds, f) expects that f, called so often, leaves no more than
-- 2 MiB and 200 objects lying about at any time.
local HELPERS <const> = [[
  local function make() return MAKE end
  local function flat(rounds, f)
    for _ = 1, 5 do f() end
    collectgarbage()
    local from = mp.stats()
    for i = 1, rounds do
      f(i)
      if i % 100 == 0 or i == rounds then
        collectgarbage()
        local to = mp.stats()
        assert(to.arena.used < from.arena.used + 2 * 1024 * 1024,
          ("%d -> %d bytes after %d rounds"):format(from.arena.used, to.arena.used, i))
        assert(#to.objects < #from.objects + 200, ("%d -> %d objects"):format(#from.objects, #to.objects))
        assert(#to.processes == #from.processes, "a slot is lost")
      end
    end
  end
]]

for _, name in ipairs(names) do
  describe("shared memory of a " .. name, function()
    local function with(code)
      return ok(((HELPERS .. code):gsub("MAKE", KINDS[name])))
    end

    it("stays flat in a loop that makes and drops it", function()
      with[[flat(400, function(i) make() if (i or 1) % 10 == 0 then collectgarbage() end end)]]
    end)

    it("stays flat in a loop that replaces it in a dict and in a list, and takes it out", function()
      with[[
        local d, l = mp.Dict(), mp.List{ 0 }
        flat(300, function(i)
          d.x, l[1] = make(), make()
          if (i or 1) % 3 == 0 then d:clear() l:clear() l:append(0) end
          if (i or 1) % 10 == 0 then collectgarbage() end
        end)]]
    end)

    it("is given back when it was only in a dict that is dropped", function()
      with[[
        flat(200, function(i)
          local d = mp.Dict()
          d.x = make()
          d.y = { d.x }
          if (i or 1) % 10 == 0 then collectgarbage() end
        end)]]
    end)

    it("stays flat in a loop that shares it with a process and kills that", function()
      with[[
        local ready = mp.Queue()
        flat(12, function()
          local shared = make()
          local p = P(function(s)
            local own, kept = make(), mp.Dict{ s }
            ready:put(own and kept and true)
            mp.sleep(60)
          end, shared)
          ready:get()
          p:kill()
          p:join()
          p:close()
        end)]]
    end)
  end)
end
