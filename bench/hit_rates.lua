-- Hit rates of mp.Cache beside policies of caches, on requests that are made here: skewed ones (Zipf), and the same
-- with long scans of keys that never come again. Every policy has as many items as the cache had. Prints a table.
-- usage: build/mpengine bench/hit_rates.lua [REQUESTS]      400,000 when absent
local mp = require "mpengine"

local REQUESTS <const> = math.tointeger(arg[1] or 400000)
local KEYS <const> = 100000
local SCAN <const> = 20000 -- keys of one scan

-- ---- requests ----

-- A function that draws a key, 1 the most frequent one, with probability proportional to 1 / key^skew.
local function zipf(skew)
  local sums, sum = {}, 0
  for k = 1, KEYS do
    sum = sum + k ^ -skew
    sums[k] = sum
  end
  return function()
    local x, low, high = math.random() * sum, 1, KEYS
    while low < high do
      local middle = (low + high) // 2
      if sums[middle] < x then low = middle + 1 else high = middle end
    end
    return low
  end
end

-- Calls request(key) for each request of a trace: `scans` of them, of 0 to 1, are in scans.
local function replay(skew, scans, request)
  math.randomseed(1)
  local draw, fresh = zipf(skew), KEYS
  local n = 0
  while n < REQUESTS do
    local between = scans > 0 and math.floor(SCAN / scans) - SCAN or REQUESTS
    for _ = 1, math.min(between, REQUESTS - n) do request(draw()) end
    n = n + between
    for _ = 1, scans > 0 and n < REQUESTS and SCAN or 0 do
      fresh = fresh + 1
      request(fresh)
    end
    n = n + (scans > 0 and SCAN or 0)
  end
end

-- ---- queues: lists of keys from new to old, with removal ----

local Queue = {}
Queue.__index = Queue

local function queue() return setmetatable({ newer = {}, older = {}, size = 0 }, Queue) end

function Queue:push(key)
  self.older[key], self.newer[key] = self.first, false
  if self.first then self.newer[self.first] = key else self.last = key end
  self.first, self.size = key, self.size + 1
end

function Queue:has(key) return self.newer[key] ~= nil end

function Queue:remove(key)
  local newer, older = self.newer[key], self.older[key]
  if newer then self.older[newer] = older else self.first = older end
  if older then self.newer[older] = newer else self.last = newer or nil end
  self.newer[key], self.older[key], self.size = nil, nil, self.size - 1
  return key
end

function Queue:pop() return self:remove(self.last) end

-- ---- policies: a function that says whether a key hits ----

local policy = {}

function policy.LRU(size)
  local q = queue()
  return function(key)
    local hit = q:has(key)
    if hit then q:remove(key) elseif q.size == size then q:pop() end
    q:push(key)
    return hit
  end
end

-- Segmented LRU: a fifth on probation.
function policy.SLRU(size)
  local probation, protected = queue(), queue()
  return function(key)
    if protected:has(key) then
      protected:remove(key)
      protected:push(key)
      return true
    end
    local hit = probation:has(key)
    if hit then
      probation:remove(key)
      protected:push(key)
      if protected.size > size * 0.8 then probation:push(protected:pop()) end
      return true
    end
    if probation.size + protected.size >= size then probation:pop() end
    probation:push(key)
    return false
  end
end

policy["S3-FIFO"] = function(size)
  local small, main, ghosts, uses = queue(), queue(), queue(), {}
  local function evict_from_main()
    while true do
      local key = main:pop()
      if uses[key] == 0 then
        uses[key] = nil
        return
      end
      uses[key] = uses[key] - 1
      main:push(key)
    end
  end
  local function evict()
    if small.size <= size // 10 then return evict_from_main() end
    local key = small:pop()
    if uses[key] > 1 then
      uses[key] = 0
      main:push(key)
      return
    end
    uses[key] = nil
    ghosts:push(key)
    if ghosts.size > size then ghosts:pop() end
  end
  return function(key)
    if uses[key] then
      uses[key] = math.min(3, uses[key] + 1)
      return true
    end
    while small.size + main.size >= size do evict() end
    uses[key] = 0
    if ghosts:has(key) then main:push(ghosts:remove(key)) else small:push(key) end
    return false
  end
end

-- A window of a hundredth, then what is more frequent than the oldest of a segmented LRU; exact counts, halved now and
-- then, stand for the sketch.
policy["W-TinyLFU"] = function(size)
  local window, probation, protected, counts, seen = queue(), queue(), queue(), {}, 0
  local window_size = math.max(1, size // 100)
  local main_size = size - window_size
  local function age()
    seen = seen + 1
    if seen < size * 10 then return end
    seen = seen // 2
    for k, n in pairs(counts) do counts[k] = n > 1 and n // 2 or nil end
  end
  local function admit(key)
    if probation.size + protected.size >= main_size then
      local victim = probation.last or protected.last
      if (counts[key] or 0) <= (counts[victim] or 0) then return end
      local from = probation:has(victim) and probation or protected
      from:remove(victim)
    end
    probation:push(key)
  end
  return function(key)
    counts[key] = math.min(15, (counts[key] or 0) + 1)
    age()
    for _, q in ipairs { window, protected } do
      if q:has(key) then
        q:remove(key)
        q:push(key)
        return true
      end
    end
    if probation:has(key) then
      protected:push(probation:remove(key))
      if protected.size > main_size * 0.8 then probation:push(protected:pop()) end
      return true
    end
    window:push(key)
    if window.size > window_size then admit(window:pop()) end
    return false
  end
end

-- ---- measuring ----

local function hit_rate(skew, scans, hits)
  local n, total = 0, 0
  replay(skew, scans, function(key)
    total = total + 1
    if hits(key) then n = n + 1 end
  end)
  return 100 * n / total
end

local function ours(bytes)
  local c, value = mp.Cache{ size = bytes }, ("v"):rep(100)
  return c, function(key)
    local hit = c:get(key) ~= nil
    if not hit then c:set(key, value) end
    return hit
  end
end

local ORDER <const> = { "LRU", "SLRU", "W-TinyLFU", "S3-FIFO" }
print(("%-28s %8s %10s"):format("requests", "items", "mp.Cache") .. ("%11s"):rep(#ORDER):format(table.unpack(ORDER)))
for _, trace in ipairs { { 0.9, 0 }, { 1.1, 0 }, { 0.9, 0.3 }, { 1.1, 0.3 } } do
  for _, bytes in ipairs { 256 << 10, 2 << 20 } do
    local skew, scans = trace[1], trace[2]
    local c, request = ours(bytes)
    local rate = hit_rate(skew, scans, request)
    local items = c:stats().entries
    local line = ("Zipf %.1f%-20s %8d %9.1f%%"):format(skew, scans > 0 and ", 30 % of scans" or "", items, rate)
    for _, name in ipairs(ORDER) do
      line = line .. ("%10.1f%%"):format(hit_rate(skew, scans, policy[name](items)))
    end
    print(line)
  end
end
