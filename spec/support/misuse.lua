-- Calls functions and methods with arguments of every kind. An error must be the caller's: its message begins with a
-- line of the calling script, once, and not with a line of the library, nor in words that Lua has for its own mistakes.
local co = require("mpengine").co

local function closure() end

local NOTHING <const> = {}

--- Values of every kind. Functions among them take any arguments and raise nothing.
local function values()
  local mp = require "mpengine"
  return { NOTHING, 1, -1, 2.5, 0 / 0, "x", "", true, {}, { 1, 2 }, { a = 1 }, os.clock, closure,
    coroutine.create(closure), { coroutine.create(closure) }, io.stdout, mp.Lock(), mp.Queue() }
end

--- What is wrong with an error, if anything.
local function fault_of(err)
  local text = type(err) == "table" and err.message or err
  if type(text) ~= "string" then return "no message but a " .. type(text) end
  local line = text:match "^[^\n]*"
  if line:find "killed" then return nil end
  if line:find "attempt to compare" then return nil end -- items of a list that is sorted
  if line:find "mpengine/[%w/_]+%.lua:%d" or line:find "attempt to %a+ " then return line end
  if line:find ":%d+: [^ ]+:%d+: " then return line end
  if not line:find "^%S+:%d+: " and type(err) ~= "table" then return "no place: " .. line end
  return nil
end

local misuse = {}

--- The faults of objects, as a sorted list of texts. Each object is { name, object, "names of methods" }; with fn the
--- names are of functions. settle() lets calls end that wait for a short time only.
---@param objects table
---@param settle fun()
function misuse.faults(objects, settle)
  local found, tasks, kinds = {}, {}, values()
  local function try(name, f, ...)
    local n, args = select("#", ...), { ... }
    for i = 1, n do if args[i] == NOTHING then args[i] = nil end end
    tasks[#tasks + 1] = co.spawn(function()
      local ok, err = pcall(function()
        local results <const> = table.pack(f(table.unpack(args, 1, n)))
        return results
      end)
      local fault = not ok and fault_of(err)
      if fault then found[name .. ": " .. fault] = true end
    end)
  end
  for _, entry in ipairs(objects) do
    local name, object, names = entry[1], entry[2], entry[3]
    for method in names:gmatch "%S+" do
      local full, f = name .. "." .. method, object[method]
      if not f then found[full .. " is not there"] = true f = closure end
      for i = 1, #kinds do
        try(full, f, kinds[i])
        for j = 1, #kinds, entry.fn and 1 or 3 do
          if entry.fn then try(full, f, kinds[i], kinds[j]) else try(full, f, object, kinds[i], kinds[j]) end
        end
        if not entry.fn then try(full, f, object, kinds[i]) end
      end
      settle()
      co.killall(tasks)
      tasks = {}
    end
  end
  local list = {}
  for text in pairs(found) do list[#list + 1] = text end
  table.sort(list)
  return list
end

return misuse
