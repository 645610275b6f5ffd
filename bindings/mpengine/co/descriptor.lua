--- co.wait_fd: for libraries with descriptors of their own.
local core = require "mpengine.core"
local check = require "mpengine.check"

local MODES = { r = true, w = true, rw = true }

--- Waits until a descriptor can be read, or written to: what became ready. An end of file, an error
--- and a descriptor that is not open count as both: the next read or write tells. The descriptor
--- stays the caller's. Before it is closed no task may wait for it.
---@param fd integer
---@param mode "r"|"w"|"rw"
---@param timeout? number seconds
---@return "r"|"w"|"rw"|nil ready
---@return "timeout"? reason
return function(fd, mode, timeout)
    local number = math.type(fd) == "integer" and fd or type(fd) == "number" and math.tointeger(fd)
    if not number or number < 0 or number > 0x7fffffff then
        check.wrong("co.wait_fd", 1, "a descriptor must be an integer, 0 or more")
    end
    if not MODES[mode] then check.wrong("co.wait_fd", 2, "mode must be 'r', 'w' or 'rw'") end
    check.timeout("co.wait_fd", 3, timeout)
    local reads, writes = mode ~= "w", mode ~= "r"
    local readable, writable = core.poll({ reads and number or nil }, { writes and number or nil }, timeout)
    if not readable then return nil, writable end
    return (readable[number] and "r" or "") .. (writable[number] and "w" or "")
end
