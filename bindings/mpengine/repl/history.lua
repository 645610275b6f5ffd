--- The history of the interactive mode: a file with a line for each chunk, oldest first. In a line, \n is a
--- newline of the chunk and \\ a backslash.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local history = {}

history.MOST = 1000 -- entries that a session has
local LONGEST <const> = 64 << 10 -- bytes of an entry that is kept

--- Where the file is; nil: nowhere, as MPENGINE_HISTORY is empty or there is no home directory.
---@return string?
function history.path()
    local path = os.getenv "MPENGINE_HISTORY"
    if path then return path ~= "" and path or nil end
    local state, home = os.getenv "XDG_STATE_HOME", os.getenv "HOME"
    if not state or state:sub(1, 1) ~= "/" then
        if not home or home == "" then return nil end
        state = home .. "/.local/state"
    end
    return state .. "/mpengine/history"
end

local function escaped(text)
    return (text:gsub("[\\\n\r\0]", { ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "", ["\0"] = "" }))
end

local function unescaped(line)
    return (line:gsub("\\(.)", function(c) return c == "n" and "\n" or c end))
end

--- The newest entries of the file, oldest first.
---@param path string
---@return string[]
function history.read(path)
    local all, entries = {}, {}
    for line in core.history_read(path):gmatch "[^\n]+" do all[#all + 1] = line end
    for i = math.max(1, #all - history.MOST + 1), #all do entries[#entries + 1] = unescaped(all[i]) end
    return entries
end

--- Adds an entry; true, or nil and why it could not.
---@param path string
---@param text string
---@return true?
---@return string? why
function history.add(path, text)
    local line = escaped(text)
    if line == "" or #line > LONGEST then return true end
    return core.history_append(path, line .. "\n")
end

return history
