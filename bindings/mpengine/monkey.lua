--- Makes blocking libraries suspend only the calling task.
local check = require "mpengine.check"

local monkey = {}

local done = {} -- part -> true, once it has been patched

local parts = {
    socket = function() require("mpengine.monkey.sockets").patch() end,
    os = function() require("mpengine.monkey.files").patch_os() end,
    io = function() require("mpengine.monkey.files").patch_io() end,
}

--- Replaces blocking functions in place: those of LuaSocket and LuaSec (socket), os.execute (os),
--- io.popen and the reading of standard input (io). A part set to false is left out. Further calls
--- are harmless.
---@param which? { socket?: boolean, os?: boolean, io?: boolean }
function monkey.patch_all(which)
    if which ~= nil and type(which) ~= "table" then
        check.fail("monkey.patch_all", 1, "table", which)
    end
    for name, value in pairs(which or {}) do
        if not parts[name] then
            error(("patch_all: unknown part '%s' (socket, os, io expected)"):format(tostring(name)), 2)
        end
        if type(value) ~= "boolean" then
            error(("patch_all: part '%s' must be true or false, got a %s"):format(name, type(value)), 2)
        end
    end
    for name, patch in pairs(parts) do
        if not done[name] and not (which and which[name] == false) then
            done[name] = true
            patch()
        end
    end
end

--- The function of that name as it was before patch_all, for the code that must block. A method of a
--- socket gets its answer at once all the same, as patched sockets never wait themselves.
---@param name string as "socket.select", "os.execute"; methods as "file:read", "tcp:receive"
---@return function
function monkey.original(name) return require("mpengine.monkey.originals").get(name) end

return monkey
