--- Headers by name: the keys are in lower case, and found in any case.
local Headers = { __name = "mpengine.http.Headers" }

function Headers.__index(self, name)
    return type(name) == "string" and rawget(self, name:lower()) or nil
end

return Headers
