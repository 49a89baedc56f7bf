"""Would the API server take it?"""
