import ArgumentParser

@testable import node

extension SettingCatalogue {
    /// The settings with their defaults, looked up once: parsing takes long in a debug build.
    static let standard = Result { SettingCatalogue(try NodeOptions.parse([])) }
}
