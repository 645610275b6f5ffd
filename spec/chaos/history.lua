-- Checks afterwards what the owners of a lock say of a counter that it guards. Each owner writes lines into a file:
--
--   i FENCE VALUE TIME   it has the lock, and is about to store VALUE with its guard
--   o FENCE              that is stored
--   r FENCE TIME         the lock was still its own when it released it; TIME is before the release
--
-- Times are mp.now, the same for all processes of the machine. A write without "o" may have been made.
local history = {}

local function read(path)
  local entries, by_fence, doubled = {}, {}, {}
  for line in io.lines(path) do
    local kind, fence, rest = line:match "^(%a) (%d+) ?(.*)$"
    fence = math.tointeger(tonumber(fence))
    local e = by_fence[fence]
    if kind == "i" then
      if e then doubled[#doubled + 1] = fence end
      local value, from = rest:match "^(%d+) (%S+)$"
      e = { fence = fence, value = tonumber(value), from = tonumber(from) }
      by_fence[fence] = e
      entries[#entries + 1] = e
    elseif kind == "o" then
      e.is_stored = true
    else
      e.till = tonumber(rest)
    end
  end
  table.sort(entries, function(a, b) return a.fence < b.fence end)
  return entries, doubled
end

local function was_cut(cuts, from, till)
  for _, at in ipairs(cuts) do
    if from <= at and at <= till then return true end
  end
  return false
end

--- The values in the order of the fences: each stored one is greater than the one before, by no more than what may have
--- been stored between. A server that went back in time is where it may be smaller.
local function check_values(entries, cuts, fail)
  local last, unsure = nil, 0
  for _, e in ipairs(entries) do
    if e.is_stored then
      local step = last and e.value - last.value or 1
      if step > 1 + unsure or step < 1 and not was_cut(cuts, last.from, e.till or e.from) then
        fail(("the value %d (fence %d) was stored after %d, with %d between that may have been stored"):format(e.value,
          e.fence, last.value, unsure))
      end
      last, unsure = e, 0
    else
      unsure = unsure + 1
    end
  end
  return last, unsure
end

--- No two processes had the lock at a time, of those that had it until they released it.
local function check_owners(entries, cuts, fail)
  local owned = {}
  for _, e in ipairs(entries) do if e.till then owned[#owned + 1] = e end end
  table.sort(owned, function(a, b) return a.from < b.from end)
  for i = 2, #owned do
    local a, b = owned[i - 1], owned[i]
    if b.from < a.till and not was_cut(cuts, a.from, b.till) then
      fail(("the fences %d and %d had the lock at once, from %f to %f"):format(a.fence, b.fence, b.from, a.till))
    end
  end
end

--- Checks a file. `cuts` are the times at which the server may have gone back, `value` is what the counter has at the
--- end. Returns how many writes were stored, and how many may have been.
---@param path string
---@param cuts number[]
---@param value integer
---@param fail fun(what: string)
function history.check(path, cuts, value, fail)
  local entries, doubled = read(path)
  for _, fence in ipairs(doubled) do fail(("the fence %d was given twice"):format(fence)) end
  local last, unsure = check_values(entries, cuts, fail)
  check_owners(entries, cuts, fail)
  local stored = 0
  for _, e in ipairs(entries) do if e.is_stored then stored = stored + 1 end end
  local low = last and (was_cut(cuts, last.from, math.huge) and 0 or last.value) or 0
  local high = (last and last.value or 0) + unsure
  if value < low or value > high then
    fail(("the counter has %d at the end, from %d to %d are possible"):format(value, low, high))
  end
  return stored, #entries - stored
end

return history
