--- mp.SharedMemory: named shared memory for unrelated programs.
local core = require "mpengine.core"
local check = require "mpengine.check"

local types = { name = "string", create = "boolean", size = "number" }

local function check_fields(opts)
    if type(opts) ~= "table" then
        check.fail("SharedMemory", 1, "table", opts)
    end
    for key, value in pairs(opts) do
        local expected = types[key]
        if not expected then
            error(("SharedMemory: unknown field '%s' (name, create or size expected)"):format(tostring(key)), 3)
        end
        if type(value) ~= expected then
            error(("SharedMemory: field '%s': a %s expected, got %s"):format(key, expected, type(value)), 3)
        end
    end
    if opts.create and (math.type(opts.size) ~= "integer" or opts.size < 1) then
        error("SharedMemory: field 'size' must be a positive integer of bytes", 3)
    end
    if not opts.create and not opts.name then
        error("SharedMemory: field 'name' expected: the memory to attach to", 3)
    end
end

local counter = 0

local function free_name()
    counter = counter + 1
    return ("mpengine-%d-%d-%d"):format(core.pid(), math.floor(core.now() * 1e6), counter)
end

--- mp.SharedMemory{ name =, create =, size = } -> memory with read([i [, j]]), write(bytes [, at]),
--- close(), unlink(), name, size. Attaching to a missing name, or creating one that exists, raises.
local function SharedMemory(opts)
    check_fields(opts)
    local name = opts.name or free_name()
    if name:sub(1, 1) ~= "/" then name = "/" .. name end
    local ok, memory = pcall(core.open_shared_memory, name, opts.create or false, opts.size)
    if not ok then error(memory, 0) end
    return memory
end

return { SharedMemory = SharedMemory }
