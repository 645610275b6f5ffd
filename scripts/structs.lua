-- Particles between two walls, in one array of structs: each process moves its own part of them.
-- Notice: a view of one field is an array of numbers, so all of a part are moved by one call; an element
-- is written by its fields, or as a table, which no process sees half done.
--
--   mpengine scripts/structs.lua [particles [processes]]
local mp = require "mpengine"

local N <const> = math.tointeger(tonumber(arg and arg[1])) or 1000
local PROCESSES <const> = math.tointeger(tonumber(arg and arg[2])) or 4
local STEPS <const> = 100

local Particle = mp.Struct{ { "x", "d" }, { "v", "d" }, { "bounces", "i" }, { "name", "s8" } }
local particles = mp.Array(Particle, N)
for i = 1, N do particles[i] = { x = i / N, v = i % 7 / 64, bounces = 0, name = "p" .. i } end

-- Moves the particles of a part: all of them by their speeds, then back those that have met a wall.
local function move(part)
  local x, v, bounces = part:field "x", part:field "v", part:field "bounces"
  for _ = 1, STEPS do
    x:axpy(1, v)
    for i = 1, #x do
      if x[i] < 0 or x[i] > 1 then
        x[i] = (x[i] < 0 and 0 or 2) - x[i]
        v[i] = -v[i]
        bounces:add(i, 1)
      end
    end
  end
end

local list = {}
for k = 1, PROCESSES do
  local part = particles:view((k - 1) * N // PROCESSES + 1, k * N // PROCESSES)
  list[k] = mp.Process(move, part)
  list[k]:start()
end
for _, p in ipairs(list) do p:join() end

local most = particles[1]
for _, p in ipairs(particles) do
  if p.bounces > most.bounces then most = p end
end
local x = particles:field "x"
print(Particle)
print(("%d particles, all between %.1f and %.1f: %s"):format(N, 0, 1, tostring(x:min() >= 0 and x:max() <= 1)))
print(("%d bounces, %d of %s"):format(particles:field("bounces"):sum(), most.bounces, most.name))
